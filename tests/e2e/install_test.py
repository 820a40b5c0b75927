#!/usr/bin/env python3
"""What `cmake --install` makes, in a directory of its own, as a stranger would use it.

    install_test.py --build DIR --source DIR --cmake PROGRAM

The unit and its settings fit together and to the server, no file names the machine that built it,
and the installed server finds its modules: it compresses a model whose tokenizer only SentencePiece
reads. Where it misses a module or /proc, it says so. Needs nothing but Python's standard library.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "reference"))
import service_test  # noqa: E402
from service_process import Service  # noqa: E402

ARGS = None


def varint(number):
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def field(number, value):
    """A field of a protobuf message: an integer, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def sentencepiece_model():
    """260 pieces: the three special ones, a byte each, and the blank."""
    unknown, control, byte, normal = 2, 3, 6, 1
    pieces = [("<unk>", unknown), ("<s>", control), ("</s>", control)]
    pieces += [(f"<0x{b:02X}>", byte) for b in range(256)] + [("\u2581", normal)]
    model = b"".join(
        field(1, field(1, piece.encode()) + b"\x15" + struct.pack("<f", -i) + field(3, kind))
        for i, (piece, kind) in enumerate(pieces))
    bpe = 2
    trainer = field(3, bpe) + field(4, len(pieces)) + field(35, 1)
    normalizer = field(1, b"identity") + field(3, 1) + field(4, 0) + field(5, 1)
    return model + field(2, trainer) + field(3, normalizer)


def write_sentencepiece_model(path):
    """A model whose tokenizer is read by the SentencePiece module and by nothing else."""
    path = pathlib.Path(path)
    service_test.write_model(str(path))
    (path / "tokenizer.json").unlink()
    (path / "tokenizer.model").write_bytes(sentencepiece_model())
    (path / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer"}')


def settings(path):
    """NAME=VALUE lines of an environment file or a unit; the last of a name counts."""
    lines = pathlib.Path(path).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Za-z_]+=", line))


class InstallTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.TemporaryDirectory(prefix="svdllm-install-")
        cls.prefix = pathlib.Path(cls.dir.name, "prefix")
        subprocess.run([ARGS.cmake, "--install", ARGS.build, "--prefix", cls.prefix], check=True,
                       stdout=subprocess.DEVNULL)
        cls.unit_path = cls.prefix / "lib/systemd/system/svdllm.service"
        cls.unit = settings(cls.unit_path)
        cls.defaults = settings(cls.prefix / "etc/default/svdllm")

    @classmethod
    def tearDownClass(cls):
        cls.dir.cleanup()

    def test_everything_is_there_and_names_nobody(self):
        for name in ["bin/svdllm", "bin/svdllm-server", "lib/svdllm/svdllm_sentencepiece.so",
                     "share/doc/svdllm/LICENSE", "share/doc/svdllm/docs/getting-started.md",
                     "share/man/man1/svdllm.1", "share/man/man8/svdllm-server.8",
                     "share/svdllm/proto/svdllm/v1/compression.proto"]:
            self.assertTrue((self.prefix / name).is_file(), name)
        for path in self.prefix.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                for foreign in (ARGS.source, ARGS.build):
                    self.assertNotIn(os.fsencode(foreign), content, path)
                self.assertIsNone(re.search(rb"@[a-z]+@", content)
                                  if path.suffix in {".service", ".1", ".8"} else None, path)

    def test_modules_are_looked_for_where_it_is_installed_and_nowhere_else(self):
        """Whoever could make another of the directories would get code into a worker."""
        alone = pathlib.Path(self.dir.name, "elsewhere")  # without modules: it says where they should be
        (alone / "bin").mkdir(parents=True)
        shutil.copy(f"{self.prefix}/bin/svdllm-server", alone / "bin")
        ended = subprocess.run(
            [f"{alone}/bin/svdllm-server", f"--data_dir={self.dir.name}/none",
             "--listen=127.0.0.1:0", "--http_listen=", "--devices=cuda:0"], text=True,
            capture_output=True, timeout=60, env={"PATH": os.environ["PATH"]})
        self.assertNotEqual(ended.returncode, 0)
        tried = re.search(r"looked for ([^)]*)\)", ended.stderr)
        self.assertIsNotNone(tried, ended.stderr)
        for path in tried[1].split(", "):
            self.assertTrue(os.path.realpath(path).startswith(f"{os.path.realpath(alone)}/"), path)

    def test_settings_that_are_there_stay(self):
        path = self.prefix / "etc/default/svdllm"
        before = path.read_text()
        path.write_text("SVDLLM_QUEUE_LIMIT=5\n")
        subprocess.run([ARGS.cmake, "--install", ARGS.build, "--prefix", self.prefix], check=True,
                       stdout=subprocess.DEVNULL)
        self.assertEqual(path.read_text(), "SVDLLM_QUEUE_LIMIT=5\n")
        path.write_text(before)

    def test_unit_and_settings_fit_the_server(self):
        self.assertEqual(self.unit["ExecStart"], f"{self.prefix}/bin/svdllm-server")
        self.assertEqual(self.unit["EnvironmentFile"], f"{self.prefix}/etc/default/svdllm")
        help_text = subprocess.run([self.unit["ExecStart"], "--help"], check=True, text=True,
                                   capture_output=True).stdout
        for variable in self.defaults:
            self.assertIn(f"--{variable.removeprefix('SVDLLM_').lower()} ", help_text)
        stopping = sum(float(self.defaults[f"SVDLLM_{name}_SECONDS"]) for name in ("DRAIN", "GRACE"))
        self.assertGreater(float(self.unit["TimeoutStopSec"]), stopping + 5)
        # The server refuses roots that are not there: the unit makes them.
        made = {f"/var/lib/{name}" for name in self.unit["StateDirectory"].split()}
        self.assertLessEqual({self.defaults["SVDLLM_ARTIFACT_ROOT"],
                              *self.defaults["SVDLLM_MODEL_ROOTS"].split(",")}, made)
        # What workers confine themselves with; elsewhere the filter's answer is that there is none.
        for call in ("seccomp", "landlock_create_ruleset", "landlock_add_rule",
                     "landlock_restrict_self"):
            self.assertIn(call, self.unit["SystemCallFilter"].split())
        # The unit's directories are open to others. The server makes its own, which is not.
        data = self.defaults["SVDLLM_DATA_DIR"]
        self.assertNotIn(data, made)
        self.assertIn(os.path.dirname(data), made)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze")
    def test_systemd_understands_the_unit(self):
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", self.unit_path], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        said = [line for line in done.stdout.splitlines() if "svdllm" in line]
        self.assertEqual(said, [])

    def test_installed_server_finds_its_modules(self):
        with self.service(f"{self.prefix}/bin/svdllm-server", "data") as service:
            job = service.ask(*self.compress(), "--watch")
        self.assertEqual(job["state"], "JOB_STATE_SUCCEEDED")

    def test_a_server_without_its_module_says_what_is_missing(self):
        alone = pathlib.Path(self.dir.name, "alone/bin/svdllm-server")
        alone.parent.mkdir(parents=True)
        shutil.copy(f"{self.prefix}/bin/svdllm-server", alone)
        with self.service(alone, "data-alone") as service:
            status, output, _ = service.client(*self.compress(), "--validate_only")
        self.assertNotEqual(status, 0)
        error = json.loads(output)["error"]
        # The model is well, so it is not called corrupt.
        self.assertEqual(error["reason"], "UNSUPPORTED_TOKENIZER", error)
        self.assertIn("svdllm_sentencepiece.so is not there", error["message"])
        self.assertIn(str(alone.parent.parent / "lib/svdllm"), error["message"].replace("/bin/..", ""))

    def test_a_server_without_proc_says_so_and_ends(self):
        hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
        if subprocess.run([*hidden, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("/proc cannot be hidden here")
        done = subprocess.run([*hidden, f"{self.prefix}/bin/svdllm-server", "--listen=127.0.0.1:0",
                               "--http_listen=", f"--data_dir={self.dir.name}/data-no-proc"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("there is no /proc/self/exe", done.stderr)

    def compress(self):
        """A compression of a model whose tokenizer only SentencePiece reads."""
        model, text = (pathlib.Path(self.dir.name, name) for name in ("model", "text.txt"))
        if not model.exists():
            write_sentencepiece_model(model)
            text.write_text("".join(f"Line {i * i} of a text.\n" for i in range(300)))
        return ["compress", f"--model={model}", f"--calibration={text}", "--keep_ratio=0.5",
                "--calibration_samples=4", "--calibration_seq_len=64"]

    def service(self, server, data):
        # Service hands on no variable of ours, so none says where modules are.
        return Service(server, f"{self.prefix}/bin/svdllm", f"{self.dir.name}/{data}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("build", "source", "cmake"):
        parser.add_argument(f"--{name}", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
