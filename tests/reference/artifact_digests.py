#!/usr/bin/env python3
"""What compressions publish, as digests: two builds that print the same publish the same bytes.

    artifact_digests.py --server BINARY --client BINARY --model DIR --text FILE [--out FILE]

Every method with every encoding, every allocation, dense output, several texts, the defaults, and
an evaluation. One line a published file: `case file sha256`, sorted. Of some files less is
compared:

    compression_report.json, evaluation_report.json, predictions.jsonl: parsed, without DROPPED,
        the model's path cut to its last part
    README.md: without the lines of speed and device, and without the version
    report.html, compression_manifest.json: that they are there (`-`), for they show times, or
        digests of files that show times

Needs nothing but Python's standard library. DIR is a model of any family that is small: with
defaults, calibration takes 256 sequences. FILE is a text that --calibration can read.
"""

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile

from service_process import Service

# What this script says -> the client's flag. A later client may spell one otherwise.
FLAGS = {
    "model": "--model", "method": "--method", "encoding": "--encoding",
    "allocation": "--allocation", "keep": "--keep_ratio", "format": "--output_format",
    "output": "--output", "text": "--calibration", "samples": "--calibration_samples",
    "length": "--calibration_seq_len", "packing": "--packing", "first": "--first_document",
    "seed": "--seed", "evaluation": "--evaluation", "evaluation_length": "--evaluation_seq_len",
    "evaluation_limit": "--evaluation_limit", "multiple": "--rank_multiple",
    "least": "--min_keep_ratio", "alpha": "--asvd_alpha", "blend": "--anchor_blend",
    "ridge": "--anchor_ridge", "baseline": "--baseline", "tasks": "--tasks",
    "dataset": "--dataset", "window": "--seq_len", "limit": "--limit",
    "drop": "--max_accuracy_drop", "watch": "--watch",
}
METHODS = ["svd", "asvd", "svd_llm", "svd_llm_update", "anchored"]
ENCODINGS = ["plain", "pivoted"]
ALLOCATIONS = ["uniform", "v2", "d_rank", "relative_tails", "kl_probe"]
SAMPLES = "MODEL_SAMPLES"

DROPPED = {"created_by", "job", "uri", "device", "stages", "seconds", "prefill_tokens_per_second",
           "throughputs", "peak_host_bytes", "peak_device_bytes"}
PARSED = ("compression_report.json", "evaluation_report.json", "predictions.jsonl")
ONLY_THERE = ("report.html", "compression_manifest.json")


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def without_circumstances(value):
    """JSON without what depends on when and where it was measured. The order of members stays."""
    if isinstance(value, list):
        return [without_circumstances(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    kept = {key: without_circumstances(entry) for key, entry in value.items()
            if key not in DROPPED}
    if isinstance(kept.get("model"), str):
        kept["model"] = kept["model"].rstrip("/").split("/")[-1]
    return kept


def digest(path):
    name = os.path.basename(path)
    if name in ONLY_THERE:
        return "-"
    with open(path, "rb") as file:
        data = file.read()
    if name in PARSED:
        texts = data.decode().splitlines() if name.endswith(".jsonl") else [data.decode()]
        kept = [json.dumps(without_circumstances(json.loads(text))) for text in texts]
        data = "\n".join(kept).encode()
    if name == "README.md":
        lines = [line for line in data.decode().splitlines()
                 if not line.startswith(("| prefill, tokens per second", "- computed on"))]
        data = re.sub(r"svdllm \d+(\.\d+)*", "svdllm", "\n".join(lines)).encode()
    return sha256(data)


def digests(directory):
    """Relative path -> digest of every file below."""
    found = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            found[os.path.relpath(path, directory)] = digest(path)
    return dict(sorted(found.items()))


def cases(text):
    """Name -> settings of a compression, in the words of FLAGS. A list repeats its flag."""
    common = {"keep": "0.8,0.6", "samples": 8, "length": 64, "text": text}
    table = {f"{method}-{encoding}": {**common, "method": method, "encoding": encoding}
             for method in METHODS for encoding in ENCODINGS}
    whitened = {**common, "method": "svd_llm"}
    table |= {f"svd_llm-{allocation}": {**whitened, "allocation": allocation}
              for allocation in ALLOCATIONS}
    table |= {f"svd_llm-{encoding}-dense": {**whitened, "encoding": encoding, "format": "DENSE"}
              for encoding in ENCODINGS}
    table["asvd-settings"] = {**common, "method": "asvd", "alpha": 0.8, "multiple": 4}
    table["anchored-settings"] = {**common, "method": "anchored", "allocation": "d_rank",
                                  "blend": 0.25, "ridge": 1e-3, "least": 0.2, "seed": 11}
    table["sources"] = {
        **common, "text": [f"3:{text}", f"1:{SAMPLES}"], "packing": "DOCUMENTS", "first": 2,
        "evaluation": f"named={text}", "evaluation_length": 64, "evaluation_limit": 4}
    table["defaults"] = {"keep": "0.8,0.6", "text": text}
    return table


def flags(settings):
    for key, value in settings.items():
        for entry in value if isinstance(value, list) else [value]:
            yield f"{FLAGS[key]}={entry}"


def collect(service, model, text, directory):
    lines = []

    def run(command, case, settings):
        print(case, file=sys.stderr, flush=True)
        settings = {"model": model, **settings, "output": case}
        job = service.ask(command, *flags(settings), FLAGS["watch"])
        found = digests(f"{directory}/artifacts/{case}")
        lines.extend(f"{case} {name} {value}" for name, value in found.items())
        return job["artifactUris"]

    published = {case: run("compress", case, settings)
                 for case, settings in cases(text).items()}
    questions = f"{directory}/questions.jsonl"
    with open(questions, "w") as file:
        for i in range(6):
            file.write(json.dumps({"query": f"Once upon a time {i}", "gold": i % 3,
                                   "choices": [" there was", " so", " zq"]}) + "\n")
    run("evaluate", "evaluation", {
        "model": published["anchored-pivoted"][1], "baseline": model,
        "tasks": "perplexity,multiple_choice", "window": 64, "limit": 5, "drop": 0.5,
        "dataset": [text, f"multiple_choice={questions}"]})
    return sorted(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("server", "client", "model", "text"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--out", help="a file in place of standard output")
    arguments = parser.parse_args()
    model, text = os.path.realpath(arguments.model), os.path.realpath(arguments.text)
    with tempfile.TemporaryDirectory(prefix="svdllm-digests-") as directory:
        roots = {os.path.dirname(model), os.path.dirname(text), os.path.realpath(directory)}
        with Service(arguments.server, arguments.client, f"{directory}/data",
                     f"--model_roots={','.join(sorted(roots))}",
                     f"--artifact_root={directory}/artifacts") as service:
            lines = collect(service, model, text, directory)
    output = "".join(line + "\n" for line in lines)
    if arguments.out:
        with open(arguments.out, "w") as file:
            file.write(output)
    else:
        sys.stdout.write(output)


if __name__ == "__main__":
    main()
