#!/usr/bin/env python3
"""Every family, as transformers sees it and as we do: dense, compressed, and loaded back.

    families_check.py --models DIR --server BINARY --client BINARY --answers BINARY [NAME...]

DIR comes from tests/reference/make_families.py; the server and the client are the shipped ones,
--answers is tests/e2e/model_answers. For each model: the logits of the dense one against those that
transformers computed; then it is compressed by three methods through the service, and each artifact
is loaded in one line. Nothing may be missing from it or left over, its logits and the perplexity
that the service reported must be transformers', and so must what it generates greedily. A table is
printed; exit status 1 where a figure is off.
"""

import argparse
import contextlib
import json
import math
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

import numpy
import torch
import transformers

import transformers_check

METHODS = {  # name: flags
    "svd_llm": ["--method=svd_llm", "--keep_ratio=0.6"],
    "svd_llm_update": ["--method=svd_llm_update", "--keep_ratio=0.6"],
    "default": ["--keep_ratio=0.7"],
    "dense output": ["--method=svd_llm", "--keep_ratio=0.6", "--output_format=DENSE"],
}
SEQ_LEN = 64
PROMPT, NEW_TOKENS = 16, 20
# Relative to the largest logit where that is above 1.
LOGITS_WITHIN = 1e-4
PERPLEXITY_WITHIN = 1e-4


@contextlib.contextmanager
def service(binary, directory):
    """The address of a server of our own."""
    log = directory / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            [binary, "--listen=127.0.0.1:0", "--http_listen=127.0.0.1:0",
             f"--data_dir={directory / 'data'}", "--drain_seconds=0"], stderr=file)
    try:
        port, deadline = None, time.monotonic() + 60
        while port is None and server.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
            port = re.search(r'"grpc_port":"(\d+)"', log.read_text())
        if port is None:
            raise SystemExit(f"the server did not start: {log.read_text()}")
        yield f"127.0.0.1:{port.group(1)}"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=60)


class Checker:
    def __init__(self, args, address, scratch):
        self.args, self.address, self.scratch = args, address, scratch
        self.ok = True

    def ours(self, model, sequences):
        """(logits, generated) of model_answers."""
        request, logits = self.scratch / "request.json", self.scratch / "logits.f32"
        request.write_text(json.dumps(
            {"sequences": sequences, "prompt": PROMPT, "new_tokens": NEW_TOKENS}))
        done = subprocess.run([self.args.answers, model, request, logits], text=True,
                              capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip())
        values = numpy.fromfile(logits, dtype=numpy.float32)
        rows = sum(map(len, sequences))
        return (torch.from_numpy(values.reshape(rows, -1)),
                json.loads(done.stdout)["generated"])

    @torch.no_grad()
    def theirs(self, model, sequences):
        logits = [model(torch.tensor([s]), use_cache=False).logits[0] for s in sequences]
        prompts = torch.tensor([s[:PROMPT] for s in sequences])
        generated = model.generate(
            prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=NEW_TOKENS,
            do_sample=False, eos_token_id=None, pad_token_id=0)
        return torch.cat(logits), generated[:, PROMPT:].tolist()

    def compress(self, model, flags):
        """(artifact, perplexity before, after), as the service says."""
        data = pathlib.Path(self.args.models)
        done = subprocess.run(
            [self.args.client, "compress", f"--server={self.address}", f"--model={model}",
             f"--calibration={data / 'calibration.txt'}", "--calibration_samples=24",
             f"--calibration_seq_len={SEQ_LEN}", f"--evaluation=text={data / 'evaluation.txt'}",
             f"--evaluation_seq_len={SEQ_LEN}", "--watch", "--format=json", *flags],
            capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            raise RuntimeError((done.stdout + done.stderr)[-600:])
        result = json.loads(done.stdout)["compressModelResult"]
        artifact = result["artifacts"][0]

        def figure(list_of):
            return next(p["perplexity"] for p in list_of if p["name"] == "text")

        return (artifact["uri"].removeprefix("file://"),
                figure(result["perplexitiesBefore" if "perplexitiesBefore" in result
                              else "perplexities"]),
                figure(artifact["perplexities"]))

    def row(self, name, case, difference, ours, theirs, notes):
        within = (difference <= LOGITS_WITHIN and not notes
                  and (ours is None or abs(theirs / ours - 1) <= PERPLEXITY_WITHIN))
        self.ok &= within
        figures = "" if ours is None else f"{ours:12.6f} {theirs:12.6f} {theirs / ours - 1:+9.1e}"
        print(f"{name:14} {case:15} {difference:9.1e} {figures:36}"
              f"{'ok' if within else 'OFF ' + '; '.join(notes)}", flush=True)

    def compare(self, name, case, directory, sequences, our_perplexity):
        # One line, as a user would.
        model, complaints = transformers_check.load(directory, torch.float32)
        notes = [f"{key}: {value}" for key, value in complaints.items()]
        expected, generated = self.theirs(model, sequences)
        logits, our_generated = self.ours(directory, sequences)
        difference = (logits - expected).abs().max() / max(1.0, expected.abs().max())
        if our_generated != generated:
            notes.append("greedy text differs")
        ids, _ = transformers_check.windows(directory, f"{self.args.models}/evaluation.txt",
                                            SEQ_LEN, 0)
        perplexity = math.exp(transformers_check.mean_nll(model, ids, 8))
        self.row(name, case, difference.item(), our_perplexity, perplexity, notes)

    def check(self, name):
        directory = pathlib.Path(self.args.models).resolve() / name
        expected = json.loads((directory / "expected.json").read_text())
        sequences = expected["sequences"]
        reference = torch.cat([torch.tensor(rows) for rows in expected["logits"]])
        logits, _ = self.ours(directory, sequences)
        difference = (logits - reference).abs().max() / max(1.0, reference.abs().max())
        self.row(name, "logits, dense", difference.item(), None, None, [])
        for i, (case, flags) in enumerate(METHODS.items()):
            artifact, before, after = self.compress(directory, flags)
            if i == 0:
                self.compare(name, "dense", directory, sequences, before)
            self.compare(name, case, artifact, sequences, after)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for flag in ("models", "server", "client", "answers"):
        parser.add_argument(f"--{flag}", required=True)
    parser.add_argument("names", nargs="*", metavar="NAME")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    names = args.names or sorted(
        path.parent.name for path in pathlib.Path(args.models).glob("*/expected.json"))
    print(f"{'model':14} {'':15} {'logits':>9} {'our ppl':>12} {'their ppl':>12} {'':9}")
    with tempfile.TemporaryDirectory(prefix="svdllm-families-") as scratch:
        scratch = pathlib.Path(scratch)
        with service(args.server, scratch) as address:
            checker = Checker(args, address, scratch)
            for name in names:
                try:
                    checker.check(name)
                except Exception as error:  # the other families are told too
                    checker.ok = False
                    print(f"{name:14} OFF {error}", flush=True)
    return 0 if checker.ok else 1


if __name__ == "__main__":
    sys.exit(main())
