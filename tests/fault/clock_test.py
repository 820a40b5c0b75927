#!/usr/bin/env python3
"""The wall clock jumps an hour forwards or back, and no job changes its fate.

    clock_test.py --server FAKE_SERVER --client CLIENT --preload shifted_clock.so

While jobs run, and between the kill of a server and the start of the next: what would have succeeded
succeeds, in as many attempts, and what would have run into its timeout does, after as long. The
server runs a pretended pipeline. Needs nothing but Python's standard library.
"""

import argparse
import contextlib
import datetime
import os
import struct
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "reference"), os.path.join(HERE, "..", "e2e")]
from service_process import Service, plain  # noqa: E402
from service_test import write_model  # noqa: E402

ARGS = None
HOUR = 3600


def time_of(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


class ClockTest(unittest.TestCase):
    def setUp(self):
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="svdllm-clock-"))
        self.model, self.text = write_model(f"{self.directory}/model"), f"{self.directory}/text.txt"
        with open(self.text, "w") as file:
            file.write("some text")
        self.shift_file = f"{self.directory}/shift"
        with open(self.shift_file, "wb") as file:
            file.write(bytes(8))
        self.service = Service(ARGS.server, ARGS.client, f"{self.directory}/data", "--lease_seconds=2")
        self.service.command = ["env", f"LD_PRELOAD={ARGS.preload}", f"LD_SHIFT_FILE={self.shift_file}",
                                *self.service.command]
        self.service.__enter__()
        self.addCleanup(lambda: self.service.process.poll() is None and self.service.process.kill())

    def shift(self, seconds):
        with open(self.shift_file, "r+b") as file:  # in place: the server has it mapped
            file.write(struct.pack("<q", seconds * 10**9))

    def submit(self, steps, step_ms, timeout):
        return self.service.ask(
            "compress", f"--model={self.model}", "--keep_ratio=0.5", f"--calibration={self.text}",
            f"--calibration_samples={steps}", f"--calibration_seq_len={step_ms}",
            f"--timeout={timeout}s", "--detach")["name"]

    def job(self, name):
        return self.service.ask("jobs", "get", name)

    def await_state(self, name, *states):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            job = self.job(name)
            if plain(job["state"]) in states:
                return job
            time.sleep(0.02)
        return self.fail(f"is not {states}: {job}")

    def assert_fates(self, fates):
        for name, (state, attempt) in fates.items():
            job = self.await_state(name, "SUCCEEDED", "FAILED", "CANCELLED")
            self.assertEqual((plain(job["state"]), job["attempt"]), (state, attempt), job)

    def test_while_jobs_run(self):
        for hours in (1, -1):
            with self.subTest(hours=hours):
                self.shift(0)
                running = self.submit(60, 50, timeout=1800)
                late = self.submit(400, 50, timeout=3)
                waiting = self.submit(2, 10, timeout=1800)
                self.await_state(running, "RUNNING")
                self.shift(hours * HOUR)
                after = self.submit(2, 10, timeout=1800)
                self.await_state(late, "RUNNING")
                begin = time.monotonic()
                self.shift(0)  # back again, in the middle of the one that is too late
                self.assert_fates({running: ("SUCCEEDED", 1), late: ("FAILED", 1)})
                self.assertEqual(self.job(late)["error"]["reason"], "JOB_TIMEOUT")
                self.assertTrue(2 < time.monotonic() - begin < 8, "3 s, whatever the clock says")
                self.assert_fates({waiting: ("SUCCEEDED", 1), after: ("SUCCEEDED", 1)})
                moved = (time_of(self.job(after)["createTime"]) -
                         time_of(self.job(waiting)["createTime"]))
                self.assertAlmostEqual(moved, hours * HOUR, delta=60, msg="the clock did jump")

    def test_over_a_restart(self):
        for hours in (1, -1):
            with self.subTest(hours=hours):
                self.shift(0)
                running = self.submit(60, 50, timeout=1800)
                waiting = self.submit(2, 10, timeout=1800)
                self.await_state(running, "RUNNING")
                self.service.process.kill()
                self.service.process.wait()
                self.shift(hours * HOUR)
                self.service.__enter__()
                self.assert_fates({running: ("SUCCEEDED", 2), waiting: ("SUCCEEDED", 1)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--preload", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
