#!/usr/bin/env python3
"""Attacks on the shipped server from outside, each with a sibling of its kind.

    attacks_test.py --server BINARY --client BINARY

Whoever can name a model, a text or a port to the server is the attacker. Every test asks the same in
the end: is the attacker refused by name, and is everybody else served meanwhile? docs/security.md
lists which attack each test is of; attacks that need a pretended pipeline, or calls that the command
line cannot make, are in server_fault_test. Needs nothing but Python's standard library.
"""

import argparse
import contextlib
import json
import os
import random
import re
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE] + [os.path.join(HERE, "..", part) for part in ("e2e", "reference", "bench/load")]
import models  # noqa: E402
from service_checks import children  # noqa: E402
from service_process import Service, plain  # noqa: E402
from service_test import write_model  # noqa: E402

ARGS = None
REFUSED = 4  # the client's exit status


class AttackTest(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.directory = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="svdllm-attack-"))
        self.model = write_model(f"{self.directory}/model")
        self.text = f"{self.directory}/text.txt"
        with open(self.text, "w") as file:
            file.writelines(f"Line {i * i} of a text that is not quite regular.\n" for i in range(300))

    def start(self, *flags, data="data"):
        service = Service(ARGS.server, ARGS.client, f"{self.directory}/{data}", *flags)
        self.service = self.stack.enter_context(service)
        return self.service

    def compress(self, *flags, model=None, text=None, samples=4):
        return ["compress", f"--model={model or self.model}", "--keep_ratio=0.5", "--method=svd_llm",
                f"--calibration={text or self.text}", f"--calibration_samples={samples}",
                "--calibration_seq_len=32", "--no_evaluation", *flags]

    def refused(self, *arguments, timeout=40):
        """The error of a command that the server must refuse."""
        status, output, errors = self.service.client(*arguments, timeout=timeout)
        self.assertEqual(status, REFUSED, f"{arguments}: {output}{errors}")
        error = json.loads(output)["error"]
        self.assertLessEqual(len(error["message"].encode()), 4096)
        return error

    def assert_fast(self, action, limit_s=1.0, tries=5):
        """One of some tries takes no longer: the machine may have other things to do."""
        times = []
        while len(times) < tries and (not times or times[-1] > limit_s):
            begin = time.monotonic()
            action()
            times.append(time.monotonic() - begin)
        self.assertLess(times[-1], limit_s, f"{times}")

    def assert_serves(self):
        self.assert_fast(self.service.jobs)
        self.assertIsNone(self.service.process.poll(), "the server has ended")

    def deaths(self, role):
        """How many processes of this role the server has seen die."""
        what = {"planner": '"a planner died"', "worker": '"worker ended"'}[role]
        return self.service.log().count(what)

    def await_end(self, name, timeout=60):
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            job = self.service.ask("jobs", "get", name)
            if plain(job["state"]) in ("SUCCEEDED", "FAILED", "CANCELLED"):
                return job
            time.sleep(0.05)
        return self.fail(f"has not ended: {job}")


class FilesTest(AttackTest):
    """What lies in a model's directory is somebody else's."""

    def test_pipes_sockets_devices_and_directories_in_place_of_files(self):
        self.start()
        files = ("config.json", "model.safetensors", "tokenizer.json", "generation_config.json",
                 "model.safetensors.index.json")
        for file in files:
            for kind in ("pipe", "socket", "device", "directory"):
                if (file, kind) == ("generation_config.json", "directory"):
                    continue  # is passed over, like any directory beside the model's files
                with self.subTest(file=file, kind=kind), tempfile.TemporaryDirectory() as parent:
                    model = write_model(f"{parent}/m")
                    path = f"{model}/{file}"
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(path)
                    if file.endswith("index.json"):  # which is read where there is no single file
                        os.remove(f"{model}/model.safetensors")
                    if kind == "pipe":
                        os.mkfifo(path)
                    elif kind == "socket":
                        with socket.socket(socket.AF_UNIX) as held:
                            held.bind(path)
                    elif kind == "device":
                        os.symlink("/dev/zero", path)
                    else:
                        os.mkdir(path)
                    begin = time.monotonic()
                    error = self.refused(*self.compress("--validate_only", model=model))
                    self.assertLess(time.monotonic() - begin, 5)
                    self.assertNotEqual(error["reason"], "INTERNAL", error)
        self.assert_serves()

    def test_pipes_in_place_of_texts(self):
        self.start()
        pipe = f"{self.directory}/pipe"
        os.mkfifo(pipe)
        for command in (self.compress("--validate_only", text=pipe),
                        ["evaluate", f"--model={self.model}", f"--dataset={pipe}", "--detach"],
                        ["evaluate", f"--model={self.model}", "--tasks=multiple_choice",
                         f"--dataset=multiple_choice={pipe}", "--detach"]):
            self.assertIn("pipe", self.refused(*command)["message"])
        self.assert_serves()

    # Seconds of it find a mapped file surely: a planner that maps dies within 20 looks.
    def rewrite_while_validated(self, path, content, command, seconds=4):
        stop = threading.Event()

        def rewrite():
            while not stop.is_set():
                with open(path, "r+b") as file:
                    file.write(content)
                    file.truncate(10)

        self.start()
        writer = threading.Thread(target=rewrite)
        writer.start()
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                status, output, errors = self.service.client(*command)
                self.assertIn(status, (0, REFUSED), output + errors)
        finally:
            stop.set()
            writer.join()
        self.assertEqual(self.deaths("planner"), 0)
        self.assert_serves()

    def test_configuration_that_shrinks_while_it_is_read(self):
        with open(f"{self.model}/config.json") as file:
            text = file.read()
        self.rewrite_while_validated(f"{self.model}/config.json",
                                     (text[:-1] + " " * 4_000_000 + "}").encode(),
                                     self.compress("--validate_only"))

    def test_header_that_shrinks_while_it_is_read(self):
        models.write_long_header(f"{self.directory}/long", size=4_000_000)
        path = f"{self.directory}/long/model.safetensors"
        with open(path, "rb") as file:
            content = file.read()
        self.rewrite_while_validated(
            path, content, self.compress("--validate_only", model=f"{self.directory}/long"))

    def test_text_that_shrinks_while_it_is_read(self):
        self.rewrite_while_validated(self.text, b"some words of a text\n" * 200_000,
                                     self.compress("--validate_only"))

    def test_long_headers_keep_nobody_waiting(self):
        self.start()
        header = models.write_long_header(f"{self.directory}/long")
        index = write_model(f"{self.directory}/index")
        with open(f"{index}/model.safetensors.index.json", "w") as file:
            file.write('{"weight_map":{' + ",".join(
                f'"model.layers.{i}.weight":"model.safetensors"' for i in range(1_500_000)) + "}}")
        for model in (header, index):
            begin = time.monotonic()
            askers = [subprocess.Popen(
                [ARGS.client, *self.compress("--validate_only", model=model),
                 f"--server={self.service.address}", "--rpc_timeout=60s"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(3)]
            time.sleep(0.5)
            self.assert_serves()
            for asker in askers:
                asker.wait()
            print(f"{model}: three validations in {time.monotonic() - begin:.1f} s")
        with open(f"/proc/{self.service.process.pid}/status") as file:
            resident = int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))
        self.assertLess(resident >> 10, 150, "MB of the server's own")

    def test_deep_nesting_in_every_json_file(self):
        self.start()
        deep = "[" * 150_000 + "]" * 150_000
        for file in ("tokenizer_config.json", "tokenizer.json", "config.json",
                     "generation_config.json", "model.safetensors.index.json",
                     "special_tokens_map.json", "vocab.json"):
            with self.subTest(file=file), tempfile.TemporaryDirectory() as parent:
                model = write_model(f"{parent}/m")
                with open(f"{model}/{file}", "w") as out:
                    out.write('{"a":' + deep + "}")
                status, output, errors = self.service.client(*self.compress("--detach", model=model))
                self.assertIn(status, (0, REFUSED), output + errors)
                if status == 0:  # a file that is copied and not read
                    job = self.await_end(json.loads(output)["name"])
                    self.assertEqual(len(job["attempts"]), 1, job)
        for name in ("text.json", "text.jsonl"):
            path = f"{self.directory}/{name}"
            with open(path, "w") as out:
                out.write(('["some words", ' if name == "text.json" else '{"text":') + deep + "}\n")
            self.refused(*self.compress("--validate_only", text=path))
        self.assertEqual((self.deaths("planner"), self.deaths("worker")), (0, 0))

    def test_tokenizers_are_looked_at_before_the_queue(self):
        self.start("--role=api")
        with open(f"{self.model}/tokenizer.json") as file:
            good = json.load(file)
        bad = {"none": None, "no JSON": "junk", "another shape": "[1, 2]",
               "no model": json.dumps({**good, "model": None}),
               "an unknown kind": json.dumps({**good, "model": {**good["model"], "type": "Soup"}}),
               "ids beyond the vocabulary": json.dumps(
                   {**good, "model": {**good["model"],
                                      "vocab": {c: 10**9 + i for c, i in good["model"]["vocab"].items()}}})}
        for what, text in bad.items():
            with self.subTest(what):
                os.remove(f"{self.model}/tokenizer.json")
                if text is not None:
                    with open(f"{self.model}/tokenizer.json", "w") as file:
                        file.write(text)
                else:
                    self.refused(*self.compress("--validate_only"))
                    open(f"{self.model}/tokenizer.json", "w").close()
                self.refused(*self.compress("--validate_only"))
        os.remove(f"{self.model}/tokenizer.json")
        with open(f"{self.model}/tokenizer.model", "wb") as file:
            file.write(b"junk")
        self.refused(*self.compress("--validate_only"))
        self.assertEqual(self.service.jobs(), [])

    def test_bytes_that_are_no_text_stay_readable_in_errors(self):
        self.start()
        with open(f"{self.model}/tokenizer.json", "rb") as file:
            good = file.read()
        for name, content in [
                ("tokenizer.json", good[:-1] + b',"x\xff\xfe":"\xff"'),
                ("tokenizer.json", good.replace(b'"BPE"', b'"B\xffE"')),
                ("config.json", b'{"model_type": "lla\xffma"}'),
                ("tokenizer_config.json", b'{"bos_token": "\xc3"}')]:
            with self.subTest(name=name), tempfile.TemporaryDirectory() as parent:
                model = write_model(f"{parent}/m")
                with open(f"{model}/{name}", "wb") as file:
                    file.write(content)
                status, output, errors = self.service.client(*self.compress("--detach", model=model))
                self.assertIn(status, (0, REFUSED), output + errors)
                if status == 0:
                    self.await_end(json.loads(output)["name"])
                self.service.jobs()
        for uri in ("file:///no%FFwhere", "file:///%C3%28", "file:///a%00b"):
            self.refused(*self.compress("--detach", model=uri))
        self.service.jobs()

    def test_validation_leaves_nothing(self):
        self.start("--role=api")
        root = f"{self.directory}/data/artifacts"
        before = sorted(os.listdir(root))
        self.service.ask(*self.compress("--validate_only", "--output=a/b/c/d"))
        self.service.ask("evaluate", f"--model={self.model}", f"--dataset={self.text}", "--seq_len=32",
                         "--validate_only", "--output=e/f")
        self.refused(*self.compress("--detach", "--output=../../up"))
        self.assertEqual(sorted(os.listdir(root)), before)
        self.assertFalse(os.path.exists(f"{self.directory}/data/work"))


class ServiceTest(AttackTest):
    """What a peer can do to ports, processes and the store."""

    def ask_http(self, path, timeout=10):
        with socket.create_connection(("127.0.0.1", self.service.http_port), timeout) as peer:
            peer.settimeout(timeout)
            peer.sendall(f"GET {path} HTTP/1.1\r\n\r\n".encode())
            return peer.recv(4096)

    def assert_probes(self):
        for path in ("/livez", "/readyz"):
            self.assert_fast(lambda path=path: self.assertIn(b" 200 ", self.ask_http(path)))

    def open_peers(self, count, first):
        peers = []
        for _ in range(count):
            peer = socket.create_connection(("127.0.0.1", self.service.http_port), 10)
            self.addCleanup(peer.close)
            peer.sendall(first)
            peers.append(peer)
        return peers

    def test_half_sent_requests(self):
        self.start("--role=api")
        self.open_peers(200, b"GET /livez HTTP/1.1\r\nX: ")
        self.assert_probes()

    def test_requests_that_come_a_byte_at_a_time_and_answers_that_nobody_reads(self):
        self.start("--role=api")
        slow = self.open_peers(100, b"G")
        for _ in range(100):  # a hundred answers to one peer that takes none of them
            self.open_peers(1, b"GET /metrics HTTP/1.1\r\n\r\n" * 20)
        for byte in b"ET /metrics HTTP/1.1\r\n":
            for peer in slow:
                with contextlib.suppress(OSError):
                    peer.send(bytes([byte]))
            self.assert_probes()

    def test_bytes_that_are_no_protocol_on_both_ports(self):
        self.start("--role=api")
        rng = random.Random(5)
        grpc_port = int(self.service.address.rpartition(":")[2])
        for port in (grpc_port, self.service.http_port):
            for i in range(100):
                with socket.create_connection(("127.0.0.1", port), 10) as peer:
                    with contextlib.suppress(OSError):
                        head = (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET /", b"")[i % 3]
                        peer.sendall(head + rng.randbytes(rng.randrange(1, 4000)))
        self.assert_probes()
        self.assert_serves()

    def await_child(self, role, other_than=()):
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for pid in children(self.service.process.pid, role):
                if pid not in other_than:
                    return pid
            time.sleep(0.05)
        return self.fail(f"there is no {role}")

    def test_frozen_idle_worker_is_replaced(self):
        self.start("--lease_seconds=2")
        worker = self.await_child("worker")
        time.sleep(0.5)
        os.kill(worker, signal.SIGSTOP)
        begin = time.monotonic()
        job = self.service.ask(*self.compress("--watch"))
        self.assertEqual(plain(job["state"]), "SUCCEEDED")
        self.assertLess(time.monotonic() - begin, 2 + 5 + 5)
        self.assertNotEqual(self.await_child("worker"), worker)

    def test_frozen_planner_is_replaced(self):
        self.start("--role=api", "--plan_seconds=5")
        self.service.ask(*self.compress("--validate_only"))
        for planner in children(self.service.process.pid, "planner"):
            os.kill(planner, signal.SIGSTOP)
        status, output, _ = self.service.client(*self.compress("--validate_only"))
        if status != 0:  # the first of the frozen ones was asked
            self.assertEqual(json.loads(output)["error"]["reason"], "PLAN_TIMEOUT")
        self.service.ask(*self.compress("--validate_only"))
        self.assert_serves()

    def test_store_that_another_process_keeps_locked(self):
        self.start("--role=api")
        name = self.service.ask(*self.compress("--detach"))["name"]
        store = sqlite3.connect(f"{self.directory}/data/jobs.db", isolation_level=None)
        self.addCleanup(store.close)
        store.execute("begin immediate")
        blocked = [subprocess.Popen([ARGS.client, *self.compress("--detach"), "--rpc_timeout=8s",
                                     f"--server={self.service.address}"],
                                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                   for _ in range(8)]
        time.sleep(1)
        self.assert_fast(lambda: self.service.ask("jobs", "get", name))
        self.assert_fast(self.service.jobs)
        self.assertIn(b" 200 ", self.ask_http("/livez"))
        store.execute("rollback")
        for caller in blocked:
            caller.wait()
        self.service.ask(*self.compress("--detach"))

    def test_lost_attempts_leave_nothing(self):
        self.start("--lease_seconds=5")
        artifacts, work = f"{self.directory}/data/artifacts", f"{self.directory}/data/work"
        name = self.service.ask(*self.compress("--detach", samples=20_000))["name"]
        for attempt in (1, 2, 3):
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                job = self.service.ask("jobs", "get", name)
                if (job["attempt"] == attempt and plain(job["state"]) == "RUNNING" and
                        any(entry.startswith(".staging-") for entry in os.listdir(artifacts))):
                    break
                time.sleep(0.01)
            else:
                self.fail(f"attempt {attempt} has staged nothing: {job}")
            os.kill(children(self.service.process.pid, "worker")[0], signal.SIGKILL)
        job = self.await_end(name)
        self.assertEqual((plain(job["state"]), job["error"]["reason"]), ("FAILED", "ATTEMPTS_EXHAUSTED"))
        self.await_empty(artifacts, work)

    def test_a_frozen_attempt_that_is_cancelled_and_a_killed_server_leave_nothing(self):
        self.start("--lease_seconds=2")
        artifacts, work = f"{self.directory}/data/artifacts", f"{self.directory}/data/work"
        name = self.service.ask(*self.compress("--detach", samples=20_000))["name"]
        self.await_running(name)
        os.kill(self.await_child("worker"), signal.SIGSTOP)
        self.service.ask("jobs", "cancel", name)
        self.assertEqual(plain(self.await_end(name)["state"]), "CANCELLED")
        self.await_empty(artifacts, work)

        name = self.service.ask(*self.compress("--detach", samples=20_000))["name"]
        self.await_running(name)
        self.service.process.kill()
        self.service.process.wait()
        self.service.__enter__()  # the same directory, another process
        self.service.ask("jobs", "cancel", name)
        self.await_end(name)
        self.await_empty(artifacts, work)

    def await_running(self, name):
        deadline = time.monotonic() + 60
        while plain(self.service.ask("jobs", "get", name)["state"]) != "RUNNING":
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def await_empty(self, *directories):
        deadline = time.monotonic() + 20
        while left := [name for directory in directories if os.path.isdir(directory)
                       for name in os.listdir(directory)]:
            self.assertLess(time.monotonic(), deadline, f"left: {left}")
            time.sleep(0.2)


class StoreTest(AttackTest):
    """A job store that is not what it was."""

    def test_damage_is_noticed(self):
        with Service(ARGS.server, ARGS.client, f"{self.directory}/data", "--role=api") as service:
            for _ in range(40):
                service.ask(*self.compress("--detach"))
        path = f"{self.directory}/data/jobs.db"
        with open(path, "rb") as file:
            good = file.read()
        rng = random.Random(3)
        damaged = {"half of it": good[:len(good) // 8192 * 4096],
                   "no header": b"\0" * 100 + good[100:]}
        for i in range(9):
            at = 4096 * rng.randrange(1, len(good) // 4096)
            damaged[f"page {at // 4096 + 1}, {i}"] = good[:at] + rng.randbytes(4096) + good[at + 4096:]
        for what, content in damaged.items():
            with self.subTest(what):
                for rest in ("-wal", "-shm"):
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(path + rest)
                with open(path, "wb") as file:
                    file.write(content)
                done = subprocess.run(
                    [ARGS.server, "--role=api", "--listen=127.0.0.1:0", "--http_listen=",
                     f"--data_dir={self.directory}/data"], capture_output=True, text=True, timeout=30)
                self.assertEqual(done.returncode, 1)
                self.assertRegex(done.stderr, "is damaged|not a database|malformed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
