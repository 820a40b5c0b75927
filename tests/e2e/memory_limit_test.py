#!/usr/bin/env python3
"""The server, its worker and the client in a control group of 300 MiB of memory.

    memory_limit_test.py --server BINARY --client BINARY

What needs more is refused at submission, what fits runs, and what the system kills for want of
memory says so and is not tried a third time. Skips, saying so, where no such group can be made: that
takes the right to write to /sys/fs/cgroup. Needs nothing but Python's standard library.
"""

import argparse
import contextlib
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "reference"))
import service_test as tiny  # noqa: E402
from service_process import Service  # noqa: E402

ARGS = None
LIMIT = 300 << 20
# Takes memory until a process is gone, gives it back and waits for the number of the next one. What is
# in a file in memory is the group's and no process's: the system has to choose another. What it has
# chosen takes a while to die where the machine is busy, and nothing more is taken meanwhile: the system
# would choose the next one, in the end the server.
HOG = """
import os, sys, time
def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
def kills():
    with open(sys.argv[2]) as file:
        return next(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
for line in sys.stdin:
    pid, deadline, seen = int(line), time.monotonic() + 60, kills()
    with open(sys.argv[1], "wb", buffering=0) as file:
        while lives(pid) and time.monotonic() < deadline:
            if kills() > seen:
                seen, patience = kills(), time.monotonic() + 3
                while lives(pid) and time.monotonic() < patience:
                    time.sleep(0.01)
            elif file.tell() < 400 << 20:
                # In small steps where it is near: what is killed frees little.
                file.write(bytes(1 << 20 if file.tell() < 220 << 20 else 1 << 17))
            time.sleep(0.005)
    os.remove(sys.argv[1])
    print("alive" if lives(pid) else "gone", flush=True)
"""


class Group:
    """A control group of version 1 or 2, from entry to exit."""

    def __init__(self, limit):
        old = os.path.isdir("/sys/fs/cgroup/memory")
        self.path = f"/sys/fs/cgroup/{'memory/' if old else ''}svdllm-test-{os.getpid()}"
        self.limit_file = "memory.limit_in_bytes" if old else "memory.max"
        self.kills_file = f"{self.path}/memory.{'oom_control' if old else 'events'}"
        self.limit = limit

    def __enter__(self):
        os.mkdir(self.path)
        try:
            self.write(self.limit_file, self.limit)
        except OSError:
            os.rmdir(self.path)
            raise
        for file in ("memory.swap.max", "memory.swappiness"):  # it must run out, not slow down
            with contextlib.suppress(OSError):
                self.write(file, 0)
        return self

    def __exit__(self, *_):
        for _ in range(100):  # the dead leave it one by one
            with contextlib.suppress(OSError):
                os.rmdir(self.path)
                return
            time.sleep(0.1)

    def write(self, file, value):
        with open(f"{self.path}/{file}", "w") as out:
            out.write(str(value))

    def inside(self, command):
        """The command that runs in the group."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', f"{self.path}/cgroup.procs", *command]


def write_hollow_model(path, hidden, intermediate, layers):
    """A checkpoint whose weights are a hole in a file: a plan reads their shapes only."""
    tiny.write_model(path)
    shapes = {"model.embed_tokens.weight": [tiny.VOCAB, hidden], "model.norm.weight": [hidden]}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        shapes[prefix + "input_layernorm.weight"] = [hidden]
        shapes[prefix + "post_attention_layernorm.weight"] = [hidden]
        for name in "qkvo":
            shapes[f"{prefix}self_attn.{name}_proj.weight"] = [hidden, hidden]
        for name in ("gate", "up"):
            shapes[f"{prefix}mlp.{name}_proj.weight"] = [intermediate, hidden]
        shapes[prefix + "mlp.down_proj.weight"] = [hidden, intermediate]
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with open(f"{path}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    with open(f"{path}/config.json", "w") as file:
        json.dump(tiny.config(hidden_size=hidden, intermediate_size=intermediate,
                              num_hidden_layers=layers, num_attention_heads=hidden // 64,
                              num_key_value_heads=hidden // 64), file)


class MemoryLimitTest(unittest.TestCase):
    def setUp(self):
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.directory = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="svdllm-memory-"))
        try:
            self.group = self.stack.enter_context(Group(LIMIT))
        except OSError as error:
            self.skipTest(f"no control group can be made here: {error}")
        tiny.write_model(f"{self.directory}/model")
        with open(f"{self.directory}/text.txt", "w") as file:
            file.writelines(f"Line {i * i} of a text that is not quite regular.\n" for i in range(400))
        service = Service(ARGS.server, ARGS.client, f"{self.directory}/data")
        service.command = self.group.inside(service.command)
        self.service = self.stack.enter_context(service)

    def compress(self, model, *flags):
        return ["compress", f"--model={self.directory}/{model}", "--keep_ratio=0.5",
                f"--calibration={self.directory}/text.txt", "--calibration_samples=8",
                "--calibration_seq_len=64", *flags]

    def test_what_does_not_fit_is_refused_at_submission(self):
        write_hollow_model(f"{self.directory}/large", 2048, 8192, 4)
        for flag in ("--validate_only", "--detach"):
            status, output, _ = self.service.client(*self.compress("large", flag))
            self.assertNotEqual(status, 0, output)
            error = json.loads(output)["error"]
            self.assertEqual(error["reason"], "HOST_OUT_OF_MEMORY", error)
            self.assertRegex(error["message"], r"takes [\d.]+ GiB of its own.*there are 0\.29 GiB")
        self.assertEqual(self.service.jobs(), [])
        self.assertEqual(os.listdir(f"{self.directory}/data/artifacts"), [])

    def test_what_fits_runs(self):
        plan = self.service.ask(*self.compress("model", "--validate_only"))["plan"]
        self.assertEqual(int(plan["hostMemoryBytes"]), LIMIT)
        self.assertLess(int(plan["anonymousHostBytes"]), LIMIT)
        job = self.service.ask(*self.compress("model", "--watch"))
        self.assertEqual(job["state"], "JOB_STATE_SUCCEEDED")

    def test_what_is_killed_for_memory_says_so_and_is_not_tried_a_third_time(self):
        if not os.path.isdir("/dev/shm"):
            self.skipTest("there is no /dev/shm to take memory with")
        # Long enough to be killed twice, and small enough to be let in.
        name = self.service.ask("evaluate", f"--model={self.directory}/model", "--throughput=64",
                                "--prompt_tokens=64", "--new_tokens=64", "--repetitions=100",
                                "--detach")["name"]
        held = f"/dev/shm/svdllm-test-{os.getpid()}"
        with subprocess.Popen(self.group.inside([sys.executable, "-c", HOG, held,
                                                 self.group.kills_file]), text=True,
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as hog:
            try:
                for attempt in (1, 2):
                    self.await_running(name, attempt)
                    hog.stdin.write(self.worker_pid() + "\n")
                    hog.stdin.flush()
                    self.assertEqual(hog.stdout.readline().strip(), "gone")
            finally:
                hog.kill()
                with contextlib.suppress(FileNotFoundError):
                    os.remove(held)
        self.service.await_all(timeout=60)
        job = self.service.ask("jobs", "get", name)
        self.assertEqual(job["state"], "JOB_STATE_FAILED", job)
        self.assertEqual(job["error"]["reason"], "HOST_OUT_OF_MEMORY")
        self.assertIn("it may use 300 MiB", job["error"]["message"])
        self.assertEqual([attempt["error"]["reason"] for attempt in job["attempts"]],
                         ["HOST_OUT_OF_MEMORY"] * 2)
        # The server lives, and so do other jobs.
        self.assertEqual(self.service.ask(*self.compress("model", "--watch"))["state"],
                         "JOB_STATE_SUCCEEDED")

    def await_running(self, name, attempt):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            job = self.service.ask("jobs", "get", name)
            if job["state"] == "JOB_STATE_RUNNING" and job["attempt"] == attempt:
                return
            time.sleep(0.05)
        self.fail(f"attempt {attempt} has not begun: {job}")

    def worker_pid(self):
        return re.findall(r'"worker started".*?"pid":"?(\d+)', self.service.log())[-1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
