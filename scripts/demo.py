#!/usr/bin/env python3
"""scripts/demo after the build: fetches model and text, runs server and client, prints the table."""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
# README's commands go on from these.
MODEL = CACHE / "models" / "smollm2-135m"
TEXT = CACHE / "demo-text"
WIKITEXT = ROOT.parent / "shared" / "data" / "wikitext-2"
# METHOD[/ENCODING[/ALLOCATION]]; default: what the server does where nobody says how.
METHODS = ["svd", "svd_llm", "svd_llm_update", "default"]
# What scripts/fetch_smollm2.py needs to turn the package's file into a Hugging Face directory.
CONVERSION_PACKAGES = ["gguf==0.19.0", "numpy==2.4.6"]
SERVER_START_SECONDS = 30
SERVER_STOP_SECONDS = 40


class DemoError(Exception):
    """Ends the demo with a message and no traceback."""


def say(text):
    print(f"demo: {text}", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description="Compresses a model with several methods through the service and compares them.")
    parser.add_argument("--model", metavar="DIR",
                        help="a Hugging Face directory; default: SmolLM2-135M, fetched and cached")
    parser.add_argument("--text", metavar="FILE",
                        help="text for calibration (the first four fifths) and evaluation (the rest); "
                        "default: see scripts/make_demo_text, and WikiText-2 where it is at hand")
    parser.add_argument("--keep_ratio", type=float, default=0.8,
                        help="share of the linear layers' parameters to keep (%(default)s)")
    parser.add_argument("--samples", type=int, default=64, help="calibration sequences (%(default)s)")
    parser.add_argument("--seq_len", type=int, default=512,
                        help="tokens a sequence and a window (%(default)s)")
    parser.add_argument("--limit", type=int, default=16,
                        help="evaluation windows a text, 0 for all (%(default)s)")
    parser.add_argument("--methods", default=",".join(METHODS),
                        help="METHOD[/ENCODING[/ALLOCATION]] or default, for each row (%(default)s)")
    parser.add_argument("--data_dir", metavar="DIR",
                        help="the server's data and the artifacts; default: .cache/demo, emptied first")
    parser.add_argument("--build_dir", metavar="DIR", default=ROOT / "build" / "release",
                        type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--caller_dir", default=".", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.methods = arguments.methods.split(",")
    for name in ("model", "text", "data_dir"):
        value = getattr(arguments, name)
        if value is not None:  # relative to where the user stands, not to the repository
            setattr(arguments, name, pathlib.Path(arguments.caller_dir, value).resolve())
    return arguments


def run_checked(command, what):
    if subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        raise DemoError(f"{what} failed")


def prepare_model(arguments):
    if arguments.model:
        if not (arguments.model / "config.json").is_file():
            raise DemoError(f"{arguments.model}: no config.json there")
        return arguments.model
    environment = CACHE / "demo-venv"
    if not (MODEL / "fetch_smollm2.json").is_file():  # written last
        marker = environment / "installed"
        if not marker.is_file():
            say("making a Python environment for the conversion")
            shutil.rmtree(environment, ignore_errors=True)
            run_checked([sys.executable, "-m", "venv", environment], "python3 -m venv")
            run_checked([environment / "bin" / "pip", "install", "--quiet", "--no-input",
                         "--disable-pip-version-check", *CONVERSION_PACKAGES], "pip install")
            marker.touch()
        say("fetching SmolLM2-135M")
        run_checked([environment / "bin" / "python", ROOT / "scripts" / "fetch_smollm2.py",
                     "--out", MODEL, "--cache", CACHE / "downloads"], "fetching SmolLM2-135M")
    return MODEL


def split_text(path, out):
    """The user's text in two parts, cut between paragraphs (or lines, of .jsonl)."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DemoError(f"{path}: {error}") from error
    separator = "\n" if path.suffix == ".jsonl" else "\n\n"
    cut = text.find(separator, len(text) * 4 // 5)
    if cut < 0:
        cut = text.find(" ", len(text) * 4 // 5)
    if cut < 0:
        raise DemoError(f"{path}: too short to cut into calibration and evaluation text")
    out.mkdir(parents=True, exist_ok=True)
    parts = out / f"calibration{path.suffix}", out / f"evaluation{path.suffix}"
    parts[0].write_text(text[:cut], encoding="utf-8")
    parts[1].write_text(text[cut:].lstrip(), encoding="utf-8")
    return parts


def prepare_text(arguments, data_dir):
    """(calibration file, its description, {label: evaluation file})"""
    if arguments.text:
        calibration, evaluation = split_text(arguments.text, data_dir / "text")
        return calibration, f"the first four fifths of {arguments.text}", {"held_out": evaluation}
    if not (TEXT / "evaluation.txt").is_file():
        run_checked([ROOT / "scripts" / "make_demo_text", TEXT], "scripts/make_demo_text")
    evaluations = {"jargon_file": TEXT / "evaluation.txt"}
    calibration = TEXT / "calibration.txt", "the Jargon File (public domain)"
    train, test = WIKITEXT / "wiki.train.first1MB.raw", WIKITEXT / "wiki.test.raw"
    if train.is_file() and test.is_file():
        calibration = train, "WikiText-2 train"
        evaluations["wikitext2"] = test
    return *calibration, evaluations


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running_server(binary, data_dir):
    """The address of a server that is ready; stopped on the way out, whatever happens."""
    address, http_address = (f"127.0.0.1:{free_port()}" for _ in range(2))
    log_path = data_dir / "server.log"
    with open(log_path, "wb") as log:
        # A session of its own: Ctrl-C reaches this script, which stops the server in order.
        server = subprocess.Popen(
            [binary, f"--listen={address}", f"--http_listen={http_address}",
             f"--data_dir={data_dir / 'server'}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + SERVER_START_SECONDS
        while not is_ready(http_address):
            if server.poll() is not None:
                raise DemoError(f"the server ended at once (status {server.returncode})")
            if time.monotonic() > deadline:
                raise DemoError(f"the server was not ready after {SERVER_START_SECONDS} s")
            time.sleep(0.1)
        say(f"server ready at {address}, metrics at http://{http_address}/metrics")
        yield address
    except BaseException:
        tail = log_path.read_text(errors="replace").splitlines()[-20:]
        print("\n".join(["demo: the end of the server's log, all of it in " + str(log_path), *tail]),
              file=sys.stderr)
        raise
    finally:
        stop(server)


def is_ready(http_address):
    try:
        with urllib.request.urlopen(f"http://{http_address}/readyz", timeout=2) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False


def stop(server):
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(SERVER_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            say("the server did not stop in time: killed")
    with contextlib.suppress(ProcessLookupError):  # workers that outlived it, too
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def run_job(client, arguments):
    """Runs a client command to the job's end; its progress goes to the terminal."""
    result = subprocess.run([client, *arguments, "--watch", "--format=json"], stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, check=False)
    if result.returncode != 0:
        try:
            error = json.loads(result.stdout)["error"]
            what = f"{error['reason']}: {error['message']}"
        except (ValueError, KeyError, TypeError):
            what = result.stdout.decode(errors="replace").strip()[-1000:]
        raise DemoError(f"'svdllm {arguments[0]}' ended with status {result.returncode}: {what}")
    return json.loads(result.stdout)


def method_flags(written):
    """The flags of METHOD[/ENCODING[/ALLOCATION]]."""
    if written == "default":
        return []
    return [f"--{flag}={value}" for flag, value in
            zip(("method", "encoding", "allocation"), written.split("/"))]


def method_of(job):
    """As the job ran it, defaults filled in."""
    request = job["compressModelRequest"]
    return "/".join(request[key].lower().removeprefix(f"{key}_")
                    for key in ("method", "encoding", "allocation"))


def seconds_of(job):
    start, end = (datetime.datetime.fromisoformat(job[key].replace("Z", "+00:00"))
                  for key in ("startTime", "endTime"))
    return (end - start).total_seconds()


def perplexities(client, address, model, evaluations, arguments):
    job = run_job(client, [
        "evaluate", f"--server={address}", f"--model={model}", "--tasks=perplexity",
        *(f"--dataset={label}={path}" for label, path in evaluations.items()),
        f"--seq_len={arguments.seq_len}", f"--limit={arguments.limit}"])
    result = job["evaluateResult"]["model"]
    return result, {entry["name"]: float(entry["perplexity"]) for entry in result["perplexities"]}


def print_table(rows, labels):
    header = ["method", "keep", "parameters", "bytes", *(f"ppl {label}" for label in labels),
              "seconds", "artifact"]
    table = [header, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    for row in table:
        cells = [row[0].ljust(widths[0]),
                 *(cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:-1])), row[-1]]
        print("  ".join(cells).rstrip())


def run_demo(arguments):
    data_dir = arguments.data_dir or CACHE / "demo"
    if not arguments.data_dir:
        shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True, exist_ok=True)
    model = prepare_model(arguments)
    calibration, described, evaluations = prepare_text(arguments, data_dir)
    client = arguments.build_dir / "client" / "svdllm"
    rows = []

    def add_row(method, keep, result, by_label, seconds, uri):
        rows.append([method, keep, f"{int(result['parameters']):,}", f"{int(result['weightBytes']):,}",
                     *(f"{by_label[label]:.2f}" for label in evaluations), seconds, uri])

    with running_server(arguments.build_dir / "server" / "svdllm-server", data_dir) as address:
        say(f"evaluating {model}")
        dense, by_label = perplexities(client, address, model, evaluations, arguments)
        add_row("dense", "1", dense, by_label, "-", str(model))
        for method in arguments.methods:
            say(f"compressing with {method}")
            # The demo measures on held-out text itself, so the job need not measure as well.
            job = run_job(client, [
                "compress", f"--server={address}", f"--model={model}", *method_flags(method),
                f"--keep_ratio={arguments.keep_ratio:g}", f"--calibration={calibration}",
                f"--calibration_samples={arguments.samples}",
                f"--calibration_seq_len={arguments.seq_len}", "--seed=3"])
            artifact = job["compressModelResult"]["artifacts"][0]
            say(f"evaluating {artifact['uri']}")
            _, by_label = perplexities(client, address, artifact["uri"], evaluations, arguments)
            add_row(method_of(job), f"{arguments.keep_ratio:g}", artifact, by_label, f"{seconds_of(job):.0f}",
                    artifact["uri"])
    print(f"\nCalibrated on {arguments.samples} x {arguments.seq_len} tokens of {described}; "
          f"perplexity on {arguments.limit or 'all'} windows of {arguments.seq_len} tokens a text.\n")
    print_table(rows, list(evaluations))


def main():
    arguments = parse_arguments()

    def interrupted(*_):
        raise KeyboardInterrupt

    # Also where the caller's shell had SIGINT ignored, as it does for background commands.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    try:
        run_demo(arguments)
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
