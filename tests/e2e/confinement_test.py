#!/usr/bin/env python3
"""Workers and planners give up what no job needs, and whole jobs run all the same.

    confinement_test.py --server PROGRAM --client PROGRAM

Needs nothing but Python's standard library.
"""

import argparse
import glob
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.path.insert(0, os.path.join(HERE, "..", "reference"))
import service_test  # noqa: E402
from service_process import Service  # noqa: E402

ARGS = None


def status_of(task):
    """/proc/PID/task/TID/status as a dictionary."""
    lines = pathlib.Path(task, "status").read_text().splitlines()
    return dict(line.split(":", 1) for line in lines)


def children(pid):
    """Processes that this one has started, by the role that they were given."""
    found = {}
    for path in glob.glob(f"/proc/{pid}/task/*/children"):
        for child in pathlib.Path(path).read_text().split():
            words = pathlib.Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
            role = [word for word in words if word.startswith(b"--role=")][-1]
            found.setdefault(role.decode().removeprefix("--role="), []).append(child)
    return found


def mode(path):
    return os.stat(path).st_mode & 0o777


class ConfinementTest(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory(prefix="svdllm-confine-")
        self.addCleanup(directory.cleanup)
        self.dir = directory.name
        os.makedirs(f"{self.dir}/models")
        self.model = service_test.write_model(f"{self.dir}/models/tiny")
        self.text = f"{self.dir}/models/text.txt"
        pathlib.Path(self.text).write_text("".join(f"Line {i * i} of a text.\n" for i in range(300)))

    def service(self, *flags):
        # A data_dir that the server makes itself, beside the log.
        return Service(ARGS.server, ARGS.client, f"{self.dir}/log",
                       f"--data_dir={self.dir}/state/data", f"--artifact_root={self.dir}/artifacts",
                       f"--model_roots={self.dir}/models", *flags)

    def compress(self, service, *more):
        return service.client("compress", f"--model={self.model}", f"--calibration={self.text}",
                              "--keep_ratio=0.5", "--calibration_samples=4",
                              "--calibration_seq_len=64", *more)

    def test_whole_jobs_run_in_processes_that_have_given_up_the_rest(self):
        with self.service("--confine=auto") as service:
            status, output, errors = self.compress(service, "--watch", "--output=small")
            self.assertEqual(status, 0, errors)
            self.assertEqual(json.loads(output)["state"], "JOB_STATE_SUCCEEDED")
            for name in ("report.html", "README.md", "compression_manifest.json"):
                self.assertTrue(os.path.isfile(f"{self.dir}/artifacts/small/{name}"), name)
            self.assertEqual(self.compress(service, "--validate_only", "--output=other")[0], 0)
            self.assertEqual(os.listdir(f"{self.dir}/artifacts"), ["small"])
            evaluation = service.ask("evaluate", f"--model={self.dir}/artifacts/small",
                                     f"--baseline={self.model}", f"--dataset={self.text}",
                                     "--seq_len=64", "--limit=4", "--watch")
            self.assertEqual(evaluation["state"], "JOB_STATE_SUCCEEDED")
            if "not fully confined" in service.log():
                self.skipTest("the kernel, or this build, lacks something")
            processes = children(service.process.pid)
            self.assertEqual(set(processes), {"worker", "planner"})
            for pid in processes["worker"] + processes["planner"]:
                tasks = glob.glob(f"/proc/{pid}/task/*")
                self.assertGreater(len(tasks), 0)
                for task in tasks:  # threads that libraries have started are no exception
                    found = status_of(task)
                    self.assertEqual(found["NoNewPrivs"].strip(), "1", task)
                    self.assertEqual(found["Seccomp"].strip(), "2", task)
                limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
                self.assertRegex(limits, r"Max core file size +0 +0")

    def test_data_dir_is_its_users_alone(self):
        os.makedirs(f"{self.dir}/state")
        os.chmod(f"{self.dir}/state", 0o755)
        with self.service() as service:
            status, _, errors = self.compress(service, "--watch")
            self.assertEqual(status, 0, errors)
            data = f"{self.dir}/state/data"
            self.assertEqual(mode(data), 0o700)
            self.assertEqual(mode(f"{data}/work"), 0o700)
            for name in ("jobs.db", "jobs.db-wal", "jobs.db-shm", "server.lock"):
                self.assertEqual(mode(f"{data}/{name}"), 0o600, name)
            self.assertNotIn("other users", service.log())
        # As an earlier version left it.
        os.chmod(data, 0o755)
        os.chmod(f"{data}/jobs.db", 0o644)
        with self.service() as service:
            self.assertEqual(mode(f"{data}/jobs.db"), 0o600)
            self.assertIn("taken from other users' eyes", service.log())
            self.assertIn("other users may enter data_dir", service.log())

    def test_files_that_are_swapped_for_links_are_not_read(self):
        """A caller who may write below a model root tries to read what he may not."""
        outside = pathlib.Path(self.dir, "outside.json")
        secret = "of_somebody_else"
        outside.write_text(json.dumps(service_test.config(model_type=secret)))
        config = f"{self.model}/config.json"
        inside = f"{self.dir}/models/inside.json"
        shutil.copy(config, inside)
        stop = threading.Event()

        def swap():
            while not stop.is_set():
                os.symlink(outside, f"{self.model}/next")
                os.rename(f"{self.model}/next", config)
                os.link(inside, f"{self.model}/next")
                os.rename(f"{self.model}/next", config)

        with self.service() as service:
            swapper = threading.Thread(target=swap)
            swapper.start()
            statuses, told = [], 0
            try:
                for _ in range(60):
                    status, output, errors = self.compress(service, "--validate_only")
                    statuses.append(status)
                    told += secret in output + errors
            finally:
                stop.set()
                swapper.join()
            self.assertEqual(told, 0)
            self.assertIn(4, statuses, "no request met the link")

    def test_settings(self):
        def end_of(flag):
            done = subprocess.run([ARGS.server, f"--data_dir={self.dir}/x", flag],
                                  capture_output=True, text=True, timeout=60)
            return done.returncode, done.stderr

        self.assertEqual(end_of("--confine=maybe")[0], 2)
        self.assertIn("none of auto, require, off", end_of("--confine=maybe")[1])
        with self.service("--confine=off") as service:
            self.assertIn("jobs are not fully confined", service.log())
            self.assertEqual(self.compress(service, "--watch")[0], 0)
            for pid in children(service.process.pid)["worker"]:
                self.assertEqual(status_of(f"/proc/{pid}")["Seccomp"], status_of("/proc/self")["Seccomp"])
        try:
            with self.service("--confine=require") as service:
                self.assertNotIn("not fully confined", service.log())
        except RuntimeError as error:
            self.assertIn("--confine=require: ", str(error))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("server", "client"):
        parser.add_argument(f"--{name}", required=True)
    ARGS, rest = parser.parse_known_args()
    unittest.main(argv=[sys.argv[0], *rest])
