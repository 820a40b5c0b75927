#!/usr/bin/env python3
"""Hours of mixed work and accidents: nothing may grow.

    soak.py --server SERVER --client CLIENT [--minutes 60] [--seed N] [--log FILE]

Compressions by every method and evaluations of a tiny model, four callers at a time; some jobs are
cancelled, some watched, some validated, some refused; ended jobs are deleted with what they
published. Meanwhile workers and planners are killed and frozen. Every half minute a line tells the
server's memory, descriptors and threads, its children's memory, and the disk. The exit status is 1
where a figure's median over the last quarter is above that over the second by more than its
allowance, or a job ended as it should not. Needs nothing but Python's standard library.
"""

import argparse
import collections
import json
import os
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "reference"), os.path.join(HERE, "..", "e2e")]
from service_checks import await_collection, children  # noqa: E402
from service_process import Service, plain  # noqa: E402
from service_test import write_model  # noqa: E402

ARGS = None
EVERY_SECONDS = 30
# What a figure may grow by: a part of itself, and a number.
ALLOWANCES = {"memory_mb": (0.05, 4), "descriptors": (0, 4), "threads": (0, 4), "disk_mb": (0.1, 8)}
METHODS = ("svd", "asvd", "svd_llm", "svd_llm_update", "anchored")


def resident_mb(pid):
    try:
        with open(f"/proc/{pid}/status") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1)) / 1024
    except (OSError, AttributeError):
        return 0.0


def disk_mb(directory):
    """Without the log, which grows by a line per event and is not the store's."""
    total = 0
    for root, _, files in os.walk(directory):
        for name in set(files) - {"server.log"}:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except OSError:
                pass  # gone meanwhile
    return total / 2**20


class Soak:
    def __init__(self, directory, service):
        self.directory, self.service = directory, service
        self.model, self.text = write_model(f"{directory}/model"), f"{directory}/text.txt"
        with open(self.text, "w") as file:
            file.writelines(f"Line {i * i} of a text that is not quite regular.\n" for i in range(300))
        self.end = time.monotonic() + 60 * ARGS.minutes
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.wrong = []
        self.samples = []

    def count(self, what):
        with self.lock:
            self.counts[what] += 1

    def command(self, rng):
        """Some job's, and whether it is good."""
        flags = [f"--model={self.model}", "--request_id=" + f"{rng.getrandbits(128):032x}"]
        flags[1] = re.sub(r"=(.{8})(.{4})(.{4})(.{4})(.{12})", r"=\1-\2-\3-\4-\5", flags[1])
        if rng.random() < 0.3:
            return ["evaluate", *flags, f"--dataset={self.text}", "--seq_len=64", "--limit=40"]
        return ["compress", *flags, f"--method={rng.choice(METHODS)}", f"--calibration={self.text}",
                f"--keep_ratio={rng.choice(['0.5', '0.5,0.8'])}", "--calibration_seq_len=32",
                f"--calibration_samples={rng.choice([4, 16, 2000])}"]

    def one_job(self, rng):
        kind = rng.random()
        if kind < 0.1:
            self.service.client(*self.command(rng), "--validate_only")
            return self.count("validated")
        if kind < 0.15:
            # A planner may be frozen while it looks at this one: then nobody is there to refuse it.
            status, output, _ = self.service.client(*self.command(rng), f"--label={'k' * 300}=v", "--detach")
            if status == 0:
                self.wrong.append("a label of 300 characters was accepted: " + output[:200])
            return self.count("refused")
        status, output, errors = self.service.client(*self.command(rng), "--detach")
        if status != 0:
            # A planner that was killed or frozen while it looked at this one.
            reason = json.loads(output)["error"]["reason"] if output.strip() else errors[:80]
            return self.count(f"not accepted: {reason}")
        name = json.loads(output)["name"]
        if kind < 0.35:
            time.sleep(rng.uniform(0, 0.5))
            self.service.client("jobs", "cancel", name)
        self.service.client("jobs", "watch", name)
        job = self.service.ask("jobs", "get", name)
        state = plain(job["state"])
        self.count(state)
        if state == "FAILED":
            reason = job["error"]["reason"]
            self.count(f"failed: {reason}")
            if reason != "ATTEMPTS_EXHAUSTED":
                self.wrong.append(f"{name}: {job['error']}")
        self.service.client("jobs", "delete", name)
        for uri in job.get("artifactUris", []):
            path = uri.removeprefix("file://")
            shutil.rmtree(path, ignore_errors=True)
            parent = os.path.dirname(path)
            if not parent.endswith("/artifacts") and os.path.isdir(parent) and not os.listdir(parent):
                os.rmdir(parent)

    def caller(self, seed):
        rng = random.Random(seed)
        while time.monotonic() < self.end:
            try:
                self.one_job(rng)
            except Exception as error:  # noqa: BLE001: told, and the soak goes on
                self.wrong.append(repr(error)[:500])
                time.sleep(1)

    def accidents(self):
        rng = random.Random(ARGS.seed - 1)
        while time.monotonic() < self.end:
            time.sleep(rng.uniform(3, 12))
            role = rng.choice(["worker", "worker", "planner"])
            found = children(self.service.process.pid, role)
            if found:
                kind = rng.choice([signal.SIGKILL, signal.SIGSTOP])
                try:
                    os.kill(rng.choice(found), kind)
                    self.count(f"{role}: {kind.name}")
                except ProcessLookupError:
                    pass

    def sample(self):
        pid = self.service.process.pid
        below = [child for role in ("worker", "planner") for child in children(pid, role)]
        figures = {"memory_mb": resident_mb(pid), "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
                   "threads": len(os.listdir(f"/proc/{pid}/task")),
                   "disk_mb": disk_mb(f"{self.directory}/data")}
        self.samples.append(figures)
        # Children come and go: their memory is shown, and not judged.
        print(f"{len(self.samples) * EVERY_SECONDS / 60:6.1f} min: " + ", ".join(
            f"{name} {value:.1f}" for name, value in figures.items()) +
              f"; {len(below)} children {sum(map(resident_mb, below)):.0f} MB", flush=True)

    def grown(self):
        quarter = len(self.samples) // 4
        found = []
        for name, (part, number) in ALLOWANCES.items():
            values = [figures[name] for figures in self.samples]
            before = statistics.median(values[quarter:2 * quarter] or values)
            after = statistics.median(values[-quarter:] if quarter else values)
            print(f"{name}: {before:.1f} in the second quarter, {after:.1f} in the last, "
                  f"{min(values):.1f} to {max(values):.1f} over all")
            if after > before * (1 + part) + number:
                found.append(f"{name} has grown from {before:.1f} to {after:.1f}")
        return found

    def run(self):
        threads = [threading.Thread(target=self.caller, args=(ARGS.seed + i,)) for i in range(4)]
        threads.append(threading.Thread(target=self.accidents))
        for thread in threads:
            thread.start()
        while time.monotonic() < self.end and self.service.process.poll() is None:
            time.sleep(min(EVERY_SECONDS, max(0.1, self.end - time.monotonic())))
            if self.service.process.poll() is None:
                self.sample()
        for thread in threads:
            thread.join()
        self.wrong += await_collection(f"{self.directory}/data", seconds=40)
        for what, number in sorted(self.counts.items()):
            print(f"  {what}: {number}")
        return self.wrong + self.grown()


def main():
    with tempfile.TemporaryDirectory(prefix="svdllm-soak-") as directory:
        with Service(ARGS.server, ARGS.client, f"{directory}/data", "--lease_seconds=5",
                     "--plan_seconds=5") as service:
            wrong = Soak(directory, service).run()
        if ARGS.log:
            shutil.copy(service.log_path, ARGS.log)
    for sentence in wrong:
        print(f"WRONG: {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log", help="where the server's log goes in the end")
    ARGS = parser.parse_args()
    sys.exit(main())
