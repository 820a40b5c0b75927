"""What the long tests of the service share: callers in numbers, its processes, and a look into the
job store once nobody writes to it."""

import contextlib
import json
import os
import sqlite3
import subprocess
import time

STATES = {1: "QUEUED", 2: "RUNNING", 3: "CANCELLING", 4: "SUCCEEDED", 5: "FAILED", 6: "CANCELLED"}


class Load:
    """tests/bench/load's generator, running beside a test."""

    def __init__(self, binary, service, **flags):
        self.process = subprocess.Popen(
            [binary, f"--server={service.address}",
             *[f"--{name}={value}" for name, value in flags.items()]],
            stdout=subprocess.PIPE, text=True)

    def figures(self):
        """Waits for its end."""
        output, _ = self.process.communicate(timeout=3600)
        if self.process.returncode != 0:
            raise RuntimeError(f"the generator ended with {self.process.returncode}")
        return json.loads(output)


def children(pid, role):
    """The living children of a process that have this role."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/children") as file:
                for child in file.read().split():
                    with contextlib.suppress(OSError), open(f"/proc/{child}/cmdline") as line:
                        if f"--role={role}" in line.read():
                            found.append(int(child))
    return found


def names_in(path):
    with open(path) as file:
        return file.read().split()


def check_store(data_dir, accepted, all_ended=True):
    """What is wrong with the jobs in the store, as sentences: those that were accepted are there, all
    have ended where they should, no sequence has a gap, no attempt and no end is there twice, and an
    artifact is its job's."""
    wrong = []
    store = sqlite3.connect(f"file:{data_dir}/jobs.db?mode=ro", uri=True)
    jobs = {id_: (seq, STATES[state], last, attempt) for seq, id_, state, last, attempt in store.execute(
        "SELECT seq, id, state, last_sequence, attempt FROM jobs")}
    for name in accepted:
        if name.removeprefix("jobs/") not in jobs:
            wrong.append(f"{name} was accepted and is lost")
    for id_, (seq, state, last, _) in jobs.items():
        if all_ended and state not in ("SUCCEEDED", "FAILED", "CANCELLED"):
            wrong.append(f"{id_} is {state}")
        events = store.execute("SELECT sequence, state FROM events WHERE job = ? ORDER BY sequence",
                               (seq,)).fetchall()
        if [sequence for sequence, _ in events] != list(range(1, last + 1)):
            wrong.append(f"{id_} has a gap in its {last} events")
        ends = [event for _, event in events if event is not None and STATES[event] in (
            "SUCCEEDED", "FAILED", "CANCELLED")]
        if len(ends) > 1 or (state == "SUCCEEDED" and [STATES[end] for end in ends] != [state]):
            wrong.append(f"{id_} ended {len(ends)} times")
        manifests = [root for root, _, files in os.walk(f"{data_dir}/artifacts/{id_}")
                     if "compression_manifest.json" in files]
        if state == "SUCCEEDED" and len(manifests) != 1:
            wrong.append(f"{id_} has {len(manifests)} artifacts")
        if state != "SUCCEEDED" and manifests:
            attempts = store.execute("SELECT number, outcome, error_reason, error_message FROM "
                                     "attempts WHERE job = ? ORDER BY token", (seq,)).fetchall()
            wrong.append(f"{id_} is {state} and has an artifact: {attempts}")
    store.close()
    return wrong


def leftovers(data_dir):
    """What attempts and checks that were cut off have left behind."""
    found = [f"{root}/{name}" for root, names, _ in os.walk(f"{data_dir}/artifacts")
             for name in names if name.startswith(".staging-")]
    work = f"{data_dir}/work"
    if os.path.isdir(work):
        found += [os.path.join(work, name) for name in os.listdir(work)]
    return found


def await_collection(data_dir, seconds=20):
    """What a server that runs has not collected in this time."""
    deadline = time.monotonic() + seconds
    while leftovers(data_dir) and time.monotonic() < deadline:
        time.sleep(0.2)
    return [f"{path} was left" for path in leftovers(data_dir)]
