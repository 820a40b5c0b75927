#!/usr/bin/env python3
"""Workers that are stopped at random moments, and go on later.

    zombies_test.py --server FAKE_SERVER --client CLIENT --load GENERATOR [--stops N] [--seed N]

Half of the stops hit a worker that the server supervises: it must be replaced within its lease and 5
s. The other half hit one of two workers that nobody supervises: its job must be taken from it in the
same time, and when it goes on it must change nothing. Meanwhile one caller submits without a break,
and every submission must be answered within a second. In the end every accepted job has succeeded
once. The server runs a pretended pipeline. Needs nothing but Python's standard library.
"""

import argparse
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "reference"), os.path.join(HERE, "..", "e2e")]
from service_checks import Load, await_collection, check_store, children, names_in  # noqa: E402
from service_process import Service  # noqa: E402
from service_test import write_model  # noqa: E402

LEASE = 2
ARGS = None


def await_true(condition, seconds, what):
    """Waits, and returns how long it was."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.005)
    return time.monotonic() - begin


def report(kind, times):
    times.sort()
    print(f"{kind}: {len(times)} stops, gone after {times[len(times) // 2]:.2f} s (median), "
          f"{times[-1]:.2f} s (longest; bar {LEASE + 5} s)" if times else f"{kind}: none had a job",
          flush=True)


def stop_supervised(rng, service):
    """A worker of the server's own; it is killed, so that nothing goes on."""
    pid = service.process.pid
    await_true(lambda: children(pid, "worker"), 10, "there is a worker")
    time.sleep(rng.uniform(0, 0.4))
    worker = children(pid, "worker")[0]
    os.kill(worker, signal.SIGSTOP)
    took = await_true(lambda: any(child != worker for child in children(pid, "worker")), LEASE + 5,
                      "another worker")
    try:
        os.kill(worker, signal.SIGCONT)
    except ProcessLookupError:
        pass  # it was killed, as it should be
    return took


def stop_between_changes(worker, store):
    """Within a change it would keep the store locked for as long as it sleeps, and nobody is there to
    kill it: that is what supervised workers are for."""
    while True:
        worker.send_signal(signal.SIGSTOP)
        time.sleep(0.005)
        try:
            store.execute("BEGIN IMMEDIATE")
            store.execute("ROLLBACK")
            return
        except sqlite3.OperationalError:
            worker.send_signal(signal.SIGCONT)
            time.sleep(0.007)


def stop_alone(rng, data, workers):
    """One of the workers that nobody kills: it sleeps through its lease, then goes on. Returns how long
    it kept the job that it was at, None where it had none."""
    time.sleep(rng.uniform(0, 0.4))
    name, worker = rng.choice(sorted(workers.items()))
    store = sqlite3.connect(f"{data}/jobs.db", timeout=0.05, isolation_level=None)
    try:
        stop_between_changes(worker, store)
        begin = time.monotonic()
        held = store.execute("SELECT seq, lease_token FROM jobs WHERE lease_worker = ? AND "
                             "lease_token != 0", (name,)).fetchone()
        if held is None:
            time.sleep(rng.uniform(0, LEASE))
            return None
        took = await_true(lambda: store.execute("SELECT lease_token FROM jobs WHERE seq = ?",
                                                held[:1]).fetchone()[0] != held[1],
                          LEASE + 5, "the lease is over")
        time.sleep(max(0.0, rng.uniform(0, 1.5) - (time.monotonic() - begin - took)))
        return took
    finally:
        store.close()
        worker.send_signal(signal.SIGCONT)


def metrics_of(service):
    with urllib.request.urlopen(f"http://127.0.0.1:{service.http_port}/metrics") as reply:
        return reply.read().decode()


def run(directory, kind, stops):
    rng = random.Random(ARGS.seed)
    model, text = write_model(f"{directory}/model"), f"{directory}/text.txt"
    with open(text, "w") as file:
        file.write("some text")
    data = f"{directory}/data"
    flags = [f"--lease_seconds={LEASE}", "--queue_limit=1000000"]
    workers = {}
    with Service(ARGS.server, ARGS.client, data, *flags,
                 *(["--role=api"] if kind == "alone" else [])) as service:
        if kind == "alone":
            for name in ("w1", "w2"):
                with open(f"{directory}/{name}.log", "w") as log:
                    workers[name] = subprocess.Popen(
                        [ARGS.server, f"--data_dir={data}", "--devices=cpu", "--role=worker",
                         f"--lease_seconds={LEASE}", f"--worker_id={name}"], stderr=log)
        try:
            accepted = f"{directory}/accepted"
            load = Load(ARGS.load, service, model=model, text=text, samples=5, seq_len=20, submitters=1,
                        pause_ms=250, seconds=stops * (LEASE + 1), accepted=accepted)
            times = [stop_supervised(rng, service) if kind == "supervised" else
                     stop_alone(rng, data, workers) for _ in range(stops)]
            figures = load.figures()["submit"]
            service.await_all()
            wrong = await_collection(data)
            fenced = re.search(r"svdllm_fenced_writes_total (\d+)", metrics_of(service)).group(1)
        finally:
            for worker in workers.values():
                worker.send_signal(signal.SIGCONT)
                worker.terminate()
                worker.wait()
    report(kind, [took for took in times if took is not None])
    print(f"{kind}: {figures['count']} submissions, p50 {figures['p50_ms']:.0f} ms, p99 "
          f"{figures['p99_ms']:.0f} ms, longest {figures['max_ms']:.0f} ms (bar 1000 ms), errors "
          f"{figures['errors'] or 'none'}; {fenced} fenced writes", flush=True)
    wrong += check_store(data, names_in(accepted))
    if figures["errors"] or figures["max_ms"] > 1000:
        wrong.append("a submission was not answered within a second")
    for sentence in wrong:
        print(f"{kind}: WRONG: {sentence}")
    return not wrong


def main():
    good = True
    for kind, stops in (("supervised", (ARGS.stops + 1) // 2), ("alone", ARGS.stops // 2)):
        if kind not in ARGS.kinds.split(","):
            continue
        with tempfile.TemporaryDirectory(prefix="svdllm-zombies-") as directory:
            good = run(directory, kind, stops) and good
    return 0 if good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--load", required=True)
    parser.add_argument("--stops", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default="supervised,alone")
    ARGS = parser.parse_args()
    sys.exit(main())
