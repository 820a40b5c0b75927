#!/usr/bin/env python3
"""SIGTERM under load: whatever was acknowledged is in the store.

    drain_test.py --server FAKE_SERVER --client CLIENT --load GENERATOR [--repeats N]

Sixteen callers submit without a break while the server is told to stop, at another moment each time,
and until it is gone. Every name that a caller got has to be there, the exit status has to be 0, and
the next server has to take over what was running without counting an attempt. The server runs a
pretended pipeline. Needs nothing but Python's standard library.
"""

import argparse
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "reference"), os.path.join(HERE, "..", "e2e")]
from service_checks import Load, await_collection, check_store, names_in  # noqa: E402
from service_process import Service  # noqa: E402
from service_test import write_model  # noqa: E402

ARGS = None


def drain(directory, rng, common):
    """One server's life: the names that were accepted, and how long it took to stop."""
    service = Service(ARGS.server, ARGS.client, f"{directory}/data", "--queue_limit=1000000",
                      "--drain_seconds=0.5")
    service.__enter__()
    accepted = f"{directory}/accepted"
    load = Load(ARGS.load, service, accepted=accepted, submitters=16, seconds=3, **common)
    time.sleep(rng.uniform(0.3, 1.5))
    begin = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    status = service.process.wait(timeout=60)
    took = time.monotonic() - begin
    load.figures()
    if status != 0:
        raise AssertionError(f"the server ended with {status}:\n{service.log()[-4000:]}")
    return names_in(accepted), took


def main():
    rng = random.Random(ARGS.seed)
    with tempfile.TemporaryDirectory(prefix="svdllm-drain-") as directory:
        model, text = write_model(f"{directory}/model"), f"{directory}/text.txt"
        with open(text, "w") as file:
            file.write("some text")
        common = {"model": model, "text": text, "samples": 2, "seq_len": 20}
        accepted, times = [], []
        for _ in range(ARGS.repeats):
            names, took = drain(directory, rng, common)
            accepted += names
            times.append(took)
            wrong = check_store(f"{directory}/data", accepted, all_ended=False)
            with sqlite3.connect(f"file:{directory}/data/jobs.db?mode=ro", uri=True) as store:
                counted = store.execute("SELECT count(*) FROM jobs WHERE attempt > 1").fetchone()[0]
            if counted:
                wrong.append(f"{counted} jobs were charged an attempt by a stop")
            if wrong:
                print("\n".join(f"WRONG: {sentence}" for sentence in wrong))
                return 1
        # A check that was cut off may have left an empty directory; the next server removes it.
        with Service(ARGS.server, ARGS.client, f"{directory}/data"):
            wrong = await_collection(f"{directory}/data")
        if wrong:
            print("\n".join(wrong))
            return 1
    times.sort()
    print(f"{ARGS.repeats} drains, {len(accepted)} submissions acknowledged, none lost; stopped after "
          f"{times[len(times) // 2]:.1f} s (median), {times[-1]:.1f} s (longest)")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", required=True)
    parser.add_argument("--client", required=True)
    parser.add_argument("--load", required=True)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    ARGS = parser.parse_args()
    sys.exit(main())
