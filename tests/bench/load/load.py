#!/usr/bin/env python3
"""How long callers wait while the server has much to do.

    load.py --build build/release [--queued 10000] [--seconds 20] [--watchers 1000] [--half 1000]
            [--repeat 1] [--only queue,watch,livez] [--slack 1]

queue: one caller submits and one lists, beside a queue of so many jobs: first alone, then while four
callers have a model of a 70B shape planned, over and over, and one a model with a header of 99 MB.
watch: so many streams of one job with 200 events. livez: /livez beside so many connections that sent
half of a request. Every round prints its figures; the exit status is 1 where one is past its bar
times --slack. Needs nothing but Python's standard library and what is built.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "..", "reference")]
import models  # noqa: E402
from service_process import Service  # noqa: E402

ARGS = None
MISSED = []


def note(what, value, bar):
    met = value <= bar * ARGS.slack
    print(f"  {what}: {value:.1f} ms (bar {bar} ms){'' if met else '  MISSED'}", flush=True)
    if not met:
        MISSED.append(what)


def binary(path):
    return os.path.join(ARGS.build, path)


def generate(service, **flags):
    done = subprocess.run(
        [binary("tests/bench/load_generator"), f"--server={service.address}",
         *[f"--{name}={value}" for name, value in flags.items()]],
        stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def text_of(directory):
    path = f"{directory}/text.txt"
    with open(path, "w") as file:
        file.writelines(f"Line {i * i} of a text that is not quite regular.\n" for i in range(300))
    return path


def summary(figures):
    if not figures["count"]:
        return f"none, errors {figures['errors']}"
    return (f"{figures['count']}, p50 {figures['p50_ms']:.1f}, p99 {figures['p99_ms']:.1f}, "
            f"longest {figures['max_ms']:.1f} ms, errors {figures['errors'] or 'none'}")


def queue(directory):
    common = {"model": models.tiny.write_model(f"{directory}/model"), "text": text_of(directory)}
    large = models.write_70b(f"{directory}/large")
    header = models.write_long_header(f"{directory}/header")
    with Service(binary("server/svdllm-server"), binary("client/svdllm"), f"{directory}/data",
                 "--role=api", f"--queue_limit={2 * ARGS.queued + 100_000}") as service:
        begin = time.monotonic()
        generate(service, fill=ARGS.queued, seconds=0, **common)
        took = time.monotonic() - begin
        print(f"queue: {ARGS.queued} jobs queued in {took:.1f} s, {ARGS.queued / took:.0f} per s")
        callers = {"submitters": 1, "listers": 1, "pause_ms": 10, "seconds": ARGS.seconds}
        for beside, busy in [("alone", {}), ("beside plans", {
                "planners": 4, "plan_model": large, "header_planners": 1, "header_model": header})]:
            got = generate(service, **common, **callers, **busy)
            print(f" {beside}, load {os.getloadavg()[0]:.1f}")
            for kind in ("submit", "list", "plan", "header"):
                if busy or kind in ("submit", "list"):
                    print(f"  {kind}: {summary(got[kind])}")
            note(f"submit, p99, {beside}", got["submit"].get("p99_ms", 1e9), 50)
            note(f"list, p99, {beside}", got["list"].get("p99_ms", 1e9), 100)


def watch(directory):
    model = models.tiny.write_model(f"{directory}/model")
    # A pretended job of 200 steps of 50 ms, so that it is the watching that is measured.
    with Service(binary("tests/fault/svdllm-fake-server"), binary("client/svdllm"),
                 f"{directory}/data") as service:
        got = generate(service, model=model, text=text_of(directory), samples=200, seq_len=50,
                       watchers=ARGS.watchers, seconds=0)
    streams = got["watch"]
    print(f"watch: {streams['streams']} streams, {streams['complete']} with every event in order, "
          f"{streams['most_events']} events; their age: {summary(got['event_age'])}")
    if streams["complete"] != ARGS.watchers or streams["least_events"] != streams["most_events"]:
        MISSED.append("watch")


def livez(directory):
    def ask():
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), 30) as peer:
            peer.sendall(b"GET /livez HTTP/1.1\r\n\r\n")
            answer = peer.recv(4096)
        if b" 200 " not in answer:
            raise RuntimeError(f"/livez: {answer!r}")
        return 1000 * (time.monotonic() - begin)

    with Service(binary("server/svdllm-server"), binary("client/svdllm"), f"{directory}/data",
                 "--role=api") as service:
        port = service.http_port
        alone = sorted(ask() for _ in range(100))
        half = []
        for _ in range(ARGS.half):
            peer = socket.create_connection(("127.0.0.1", port), 30)
            peer.sendall(b"GET /livez HTTP/1.1\r\nX: ")
            half.append(peer)
        beside = sorted(ask() for _ in range(100))
        for peer in half:
            peer.close()
    print(f"livez: alone {statistics.median(alone):.2f} ms, longest {alone[-1]:.1f}; beside "
          f"{ARGS.half} half-sent requests {statistics.median(beside):.2f} ms")
    note("livez, longest", beside[-1], 100)


def main():
    for _ in range(ARGS.repeat):
        for name, scenario in (("queue", queue), ("watch", watch), ("livez", livez)):
            if name in ARGS.only.split(","):
                with tempfile.TemporaryDirectory(prefix="svdllm-load-") as directory:
                    scenario(directory)
    print("missed: " + (", ".join(MISSED) or "nothing"))
    return 1 if MISSED else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", required=True)
    parser.add_argument("--queued", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--half", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--only", default="queue,watch,livez")
    parser.add_argument("--slack", type=float, default=1)
    ARGS = parser.parse_args()
    sys.exit(main())
