#!/usr/bin/env python3
"""Kills the server and its worker at every durable step and at random moments of tiny jobs.

    crash_matrix.py --server BINARY --client BINARY [--quick] [--kills 200] [--seed 1]

Whatever is killed, and whenever: the job ends once, as SUCCEEDED, within its attempts; its weights
are those of a run that nobody disturbed, byte for byte; no finished layer is computed again; and
nothing is left behind. --quick passes every failpoint once with one method and kills six times at
random. Needs nothing but Python's standard library.
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
import service_test  # noqa: E402  its tiny model

LAYERS = 5
FAILPOINTS = ["store_uncommitted", "store_committed", "file_synced", "file_renamed", "staged",
              "journal_file", "journal_record", "journal_old_removed", "publish_synced",
              "publish_way_made", "publish_renamed"]
# At which of its passages a failpoint fires: the first ones, then ever fewer.
PASSAGES = [1, 2, 3, 4, 6, 9, 13, 19, 28, 42, 63, 95, 140, 200, 300, 450, 700, 1000]
JOBS = {
    "anchored": ["compress", "--method=anchored", "--keep_ratio=0.8,0.6"],
    "update": ["compress", "--method=svd_llm_update", "--keep_ratio=0.8,0.6"],
    "svd_llm, dense output": ["compress", "--method=svd_llm", "--keep_ratio=0.6", "--output_format=DENSE"],
    "evaluation": ["evaluate", "--tasks=perplexity"],
}
COMPRESSED = ["--calibration_samples=64", "--calibration_seq_len=64"]
ENDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"}


class World:
    """A data directory, and the server that has it at the moment."""

    def __init__(self, args, directory):
        self.args, self.dir = args, directory
        self.data = f"{directory}/data"
        self.armed = os.path.join(self.data, "work", "armed")  # a confined worker may remove it
        self.failpoint = ""
        self.process = None
        self.starts = self.kills = 0
        os.makedirs(os.path.dirname(self.armed), mode=0o700)
        self.model = service_test.write_model(f"{directory}/model")
        self.text = f"{directory}/text.txt"
        with open(self.text, "w") as file:
            file.writelines(f"Line {i * i} of a text that is not quite regular.\n" for i in range(900))

    def start(self):
        self.starts += 1
        log = f"{self.dir}/server-{self.starts}.log"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SVDLLM_")}
        environment |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
        if self.failpoint:
            environment["SVDLLM_FAILPOINT"] = f"{self.failpoint}:{self.armed}"
        with open(log, "w") as file:
            self.process = subprocess.Popen(
                [self.args.server, "--listen=127.0.0.1:0", "--http_listen=127.0.0.1:0",
                 f"--data_dir={self.data}", "--devices=cpu", "--drain_seconds=0", "--lease_seconds=10"],
                stderr=file, env=environment)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            with open(log) as file:
                match = re.search(r'"grpc_port":"(\d+)"', file.read())
            if match:
                self.address = f"127.0.0.1:{match.group(1)}"
                return
            time.sleep(0.02)
        if self.process.poll() is None:
            raise AssertionError("the server does not start: " + open(log).read())

    def keep_running(self):
        for _ in range(5):  # one may be killed while it starts
            if self.process is not None and self.process.poll() is None:
                return
            self.start()
        raise AssertionError("the server does not stay")

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            if self.process.wait(timeout=60) != 0:
                raise AssertionError(f"the server ended with {self.process.returncode}")
        self.process = None

    def worker(self):
        """The worker's process, or None between two."""
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/stat") as stat, open(f"/proc/{name}/cmdline") as command:
                    parent = int(stat.read().rpartition(")")[2].split()[1])
                    if parent == self.process.pid and "--role=worker" in command.read():
                        return int(name)
            except (OSError, ValueError, IndexError):
                continue
        return None

    def client(self, *arguments):
        self.keep_running()
        done = subprocess.run([self.args.client, *arguments, f"--server={self.address}", "--format=json"],
                              capture_output=True, text=True, timeout=120)
        answer = json.loads(done.stdout) if done.stdout.strip() else {}
        return answer if "name" in answer else None  # else why there is no job: the server is gone

    def submit(self, job, output):
        """Once, however often the server dies over it: the request's id says that it is the same."""
        flags = list(JOBS[job])
        flags += COMPRESSED + [f"--calibration={self.text}"] if flags[0] == "compress" else [
            f"--dataset={self.text}", "--seq_len=64", "--limit=40"]
        request_id = "%08x-0000-4000-8000-%012x" % (random.getrandbits(32), random.getrandbits(48))
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            submitted = self.client(*flags, f"--model={self.model}", f"--output={output}",
                                    f"--request_id={request_id}", "--detach")
            if submitted:
                return submitted["name"]
            time.sleep(0.02)
        raise AssertionError("not submitted")

    def await_end(self, name):
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            job = self.client("jobs", "get", name)
            if job and job["state"] in ENDED:
                return job
            time.sleep(0.03)
        raise AssertionError(f"{name} does not end: {job}")

    def digests(self, output):
        found = {}
        root = f"{self.data}/artifacts/{output}"
        for directory, _, names in os.walk(root):
            for name in names:
                path = os.path.join(directory, name)
                if name.endswith(".safetensors") or name == "config.json":
                    with open(path, "rb") as file:
                        found[os.path.relpath(path, root)] = hashlib.sha256(file.read()).hexdigest()
        return found

    def await_tidy(self):
        """What lost attempts left is gone after a few seconds; what is left is returned."""
        deadline = time.monotonic() + 25
        while True:
            left = []
            for directory, directories, names in os.walk(self.data):
                inside_work = directory == f"{self.data}/work"
                left += [os.path.join(directory, d) for d in directories
                         if inside_work or d.startswith(".staging-")]
                left += [os.path.join(directory, n) for n in names if n.endswith(".tmp")]
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.1)

    def layers(self, name):
        """attempt → (layers taken over, layers done), from what was stored of its progress."""
        attempts = {}
        with sqlite3.connect(f"file:{self.data}/jobs.db?mode=ro", uri=True) as db:
            rows = db.execute("SELECT e.sequence, e.attempt, e.payload FROM events e JOIN jobs j ON j.seq = e.job "
                              "WHERE j.id = ? ORDER BY e.sequence", [name.removeprefix("jobs/")]).fetchall()
        for number, (sequence, attempt, payload) in enumerate(rows, 1):
            assert sequence == number, f"{name}: event {sequence} where {number} should be"
            taken, done = attempts.setdefault(attempt, [0, 0])
            for match in re.findall(rb"(\d+) layers taken over", payload or b""):
                taken = max(taken, int(match))
            for match in re.findall(rb"layer (\d+)/\d+ done", payload or b""):
                done = max(done, int(match))
            attempts[attempt] = [taken, max(done, taken)]
        return attempts


def check(world, name, job, output, expected, where):
    assert job["state"] == "JOB_STATE_SUCCEEDED", f"{where}: {job}"
    assert int(job["attempt"]) <= int(job["maxAttempts"]), f"{where}: {job}"
    if expected is not None:
        assert world.digests(output) == expected, f"{where}: other bytes"
    # A step of the job's last attempt may be missing among the events, none that was finished may
    # be done again.
    finished = 0
    for attempt, (taken, done) in sorted(world.layers(name).items()):
        assert taken >= finished or done == 0, (
            f"{where}: attempt {attempt} begins behind layer {taken}, {finished} were done")
        finished = max(finished, done)


def run(world, job, output, expected, where, disturb=lambda name: None):
    name = world.submit(job, output)
    disturb(name)
    ended = world.await_end(name)
    check(world, name, ended, output, expected, where)
    return ended


def failpoints(world, jobs, passages, expected):
    fired = tried = 0
    for job in jobs:
        for failpoint in FAILPOINTS:
            for passage in passages:
                output = f"f{tried}"
                tried += 1
                world.stop()
                open(world.armed, "w").close()
                world.failpoint = f"{failpoint}:{passage}"
                where = f"{job}, {failpoint}, passage {passage}"
                run(world, job, output, expected[job], where)
                world.failpoint = ""
                if os.path.exists(world.armed):
                    break  # it is passed less often
                fired += 1
    world.stop()
    world.keep_running()
    return fired, tried


def kill_at_random(world, jobs, kills, seconds, expected):
    generator = random.Random(world.args.seed)
    attempts = count = 0
    while world.kills < kills:
        job = jobs[count % len(jobs)]
        output = f"r{count}"

        def disturb(name):
            for _ in range(2):  # a third lost attempt would be the last
                time.sleep(generator.uniform(0, 1.2 * seconds[job]))
                victim = world.process.pid if generator.random() < 0.25 else world.worker()
                state = world.client("jobs", "get", name) if victim else None
                if victim is None or state is None or state["state"] in ENDED:
                    continue
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                world.kills += 1
                if victim == world.process.pid:
                    world.process.wait()
                    world.keep_running()

        ended = run(world, job, output, expected[job], f"{job}, random kill, job {count}", disturb)
        attempts += int(ended["attempt"])
        count += 1
    return count, attempts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    random.seed(args.seed)
    service_test.LAYERS = LAYERS
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="svdllm-crash-") as directory:
        world = World(args, directory)
        jobs = ["anchored"] if args.quick else list(JOBS)
        expected, seconds = {}, {}
        for job in jobs:
            begun = time.monotonic()
            run(world, job, f"whole-{jobs.index(job)}", None, job)
            seconds[job] = time.monotonic() - begun
            digests = world.digests(f"whole-{jobs.index(job)}")
            expected[job] = digests if JOBS[job][0] == "compress" else None
        try:
            fired, tried = failpoints(world, jobs, [1] if args.quick else PASSAGES, expected)
            count, attempts = kill_at_random(world, jobs, 6 if args.quick else args.kills, seconds, expected)
            left = world.await_tidy()
            assert not left, f"left behind: {left}"
        except AssertionError:
            for number in range(max(1, world.starts - 2), world.starts + 1):
                print(open(f"{directory}/server-{number}.log").read()[-6000:], file=sys.stderr)
            raise
        finally:
            if world.process is not None and world.process.poll() is None:
                world.process.kill()
                world.process.wait()
        print(f"failpoints: {len(FAILPOINTS)}, fired {fired} times in {tried} jobs; {world.kills} random kills in "
              f"{count} jobs with {attempts} attempts; {time.monotonic() - started:.0f} s; nothing lost, nothing left")


if __name__ == "__main__":
    main()
