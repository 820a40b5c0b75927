#!/usr/bin/env python3
"""Makes a job store as a released server leaves it, for the servers after it to open.

    make_store_fixture.py make --server BINARY --client BINARY --proto DIR --out DIR
        DIR/jobs.db: jobs that have ended in every way, and jobs that wait; DIR/expected.json: what
        they hold, and what became of a copy's waiting jobs. To be made with the binaries and the
        .proto of the version that the store is to be of. --few: not every way of compressing waits,
        where another fixture has them.
    make_store_fixture.py expect --server BINARY --client BINARY --out DIR
        Runs the waiting jobs of DIR/jobs.db once more and writes anew what they are expected to
        give: for a change that is meant to change numbers, or on another processor.

The model and the texts are made here, so that no data is kept: make_inputs() gives the same bytes
each time. A stored request has absolute paths, so all of it lies in ROOT while it is used.
tests/e2e/store_fixture_test.py reads the fixture with what is here. `make` needs curl and protoc.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from service_process import Service, plain, processor  # noqa: E402
from service_test import safetensors, write_model  # noqa: E402

ROOT = "/tmp/svdllm-store-0.1.0"
MODEL, OTHER_MODEL = f"{ROOT}/models/tiny", f"{ROOT}/models/other"
TEXT, OTHER_TEXT = f"{ROOT}/texts/lines.txt", f"{ROOT}/texts/cubes.txt"
DOCUMENTS = f"{ROOT}/texts/documents.jsonl"
QUESTIONS, EXAMPLES = f"{ROOT}/texts/questions.jsonl", f"{ROOT}/texts/examples.jsonl"
BROKEN = f"{ROOT}/texts/broken.jsonl"
GOALS, ANSWERS = f"{ROOT}/texts/goals.jsonl", f"{ROOT}/texts/answers.lst"
SERVER_FLAGS = [f"--model_roots={ROOT}/models,{ROOT}/texts", f"--artifact_root={ROOT}/artifacts"]

METHODS = ["svd", "asvd", "svd_llm", "svd_llm_update", "anchored"]
ENCODINGS = ["plain", "pivoted"]
FORMATS = ["FACTORED", "DENSE"]
ALLOCATIONS = ["v2", "d_rank", "relative_tails", "kl_probe"]  # uniform is the default of the others
SAMPLED = "sources"  # calibrated on the model's own samples too
EARLY_FORM = "finished-early-form"


# ----------------------------------------------------------------------------------------- inputs

def make_inputs():
    """The models, texts and questions below ROOT."""
    write_model(MODEL)
    write_model(OTHER_MODEL, safetensors(
        value=lambda name, i: 0.0 if ".1.mlp.up_proj" in name and i % 2 else None))
    os.makedirs(f"{ROOT}/texts")

    def write(path, lines):
        with open(path, "w") as file:
            for line in lines:
                file.write(f"{line if isinstance(line, str) else json.dumps(line)}\n")

    write(TEXT, (f"Line {i * i} of a text that is not quite regular." for i in range(300)))
    write(OTHER_TEXT, (f"Another text: {i} and {i * i * i}." for i in range(300)))
    write(DOCUMENTS, ({"body": f"Document {i}. " + f"It says {i * 37} and {i * i}, and more. " * 3}
                      for i in range(40)))
    questions = [{"query": f"Line {i}", "choices": ["of a", "text", "zzz"], "gold": i % 3}
                 for i in range(6)]
    write(QUESTIONS, questions)
    write(EXAMPLES, questions[:3])
    write(BROKEN, [questions[0], {"query": "Line 1"}])
    write(GOALS, ({"goal": f"Count to {i}", "sol1": f"1 and so on to {i}", "sol2": "zzz"}
                  for i in range(4)))
    write(ANSWERS, ["0", "1", "0", "0"])


def input_digests():
    return {os.path.relpath(path, ROOT): sha256(path) for folder in ("models", "texts")
            for path in sorted(pathlib.Path(ROOT, folder).rglob("*")) if path.is_file()}


@contextlib.contextmanager
def inputs():
    """ROOT with what make_inputs() makes, for one process at a time; removed at the end."""
    while True:
        os.makedirs(ROOT, exist_ok=True)
        lock = os.open(ROOT, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Where its last user removed it meanwhile, the lock is on what is gone.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), os.stat(ROOT)):
                break
        os.close(lock)
    try:
        for entry in os.listdir(ROOT):  # of one that was killed
            shutil.rmtree(f"{ROOT}/{entry}")
        make_inputs()
        yield
    finally:
        shutil.rmtree(ROOT)
        os.close(lock)


# ------------------------------------------------------------------------------- what is compared

def sha256(path):
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def path_of(uri):
    return uri.removeprefix("file://")


def figures(measured):
    """What was measured of a model, without times."""
    return {
        "perplexities": [{"name": p["name"], "perplexity": p["perplexity"],
                          "windows": int(p["windows"]), "tokens": int(p["predictedTokens"]),
                          "held_out": p["heldOut"]} for p in measured["perplexities"]],
        "tasks": [{"name": t["name"], "task": t["task"], "items": int(t["items"]),
                   "metrics": {m["name"]: m["value"] for m in t["metrics"]}}
                  for t in measured["tasks"]],
        "batch_sizes": [t["batchSize"] for t in measured["throughputs"]]}


def sizes(measured):
    return {"parameters": int(measured["parameters"]), "weight_bytes": int(measured["weightBytes"])}


def contents(uri):
    """The digests of an artifact's weights, and what its own files say of how it was made."""
    directory = path_of(uri)
    with open(f"{directory}/compression_report.json") as file:
        report = json.load(file)
    with open(f"{directory}/config.json") as file:
        config = json.load(file)
    low_rank = config.get("low_rank_config", {})  # absent where the output is dense
    return {
        "report": {name: report[name] for name in (
            "method", "allocation", "encoding", "output_format", "keep_ratio", "settings",
            "calibration")},
        "config": {"model_type": config["model_type"], **{
            name: low_rank[name] for name in ("method", "encoding", "keep_ratio")
            if name in low_rank}},
        "weights": {name: sha256(f"{directory}/{name}") for name in sorted(os.listdir(directory))
                    if name.endswith(".safetensors")}}


def compression(result, ran):
    artifacts = []
    for artifact in result["artifacts"]:
        entry = {"keep_ratio": artifact["keepRatio"], "uri": artifact["uri"], **sizes(artifact),
                 "target_parameters": int(artifact["compressedParameters"]), **figures(artifact)}
        if ran:
            entry["ranks"] = [int(m["rank"]) for m in artifact["matrices"]]
            entry |= contents(artifact["uri"])
        else:
            entry["manifest_sha256"] = artifact["manifestSha256"]
            entry["matrices"] = {m["name"]: [int(m["rank"]), m["relativeLoss"], m["optimumLoss"],
                                             m["roundingExcess"]] for m in artifact["matrices"]}
        artifacts.append(entry)
    entry = {**sizes(result), "target_parameters": int(result["targetParameters"]),
             **figures(result), "artifacts": artifacts}
    if not ran:
        entry |= {"device": result["device"], "stages": [s["stage"] for s in result["stages"]]}
    return entry


def evaluation(result, ran):
    entry = {which: {"uri": result[which]["uri"], **sizes(result[which]), **figures(result[which])}
             for which in ("model", "baseline") if result.get(which)}
    entry |= {"verdict": result.get("verdict"), "report_uri": result["reportUri"]}
    if not ran:
        entry |= {"device": result["device"], "manifest_sha256": result["manifestSha256"]}
    return entry


def request(job):
    """Of a request as it is run, what decides the way it is run."""
    compress = job.get("compressModelRequest")
    if compress:
        return {"model": compress["model"], "keep_ratios": compress["keepRatios"],
                "output": compress["outputUri"], "method": plain(compress["method"]),
                "allocation": plain(compress["allocation"]),
                "encoding": plain(compress["encoding"]),
                "output_format": plain(compress["outputFormat"])}
    evaluate = job["evaluateRequest"]
    return {"model": evaluate["model"], "baseline": evaluate["baseline"],
            "output": evaluate["outputUri"], "threshold": evaluate.get("threshold"),
            "tasks": [task["label"] for task in evaluate["tasks"]]}


def result_of(job, ran):
    if job.get("compressModelResult"):
        return compression(job["compressModelResult"], ran)
    return evaluation(job["evaluateResult"], ran) if job.get("evaluateResult") else None


def history(service, name):
    """What happened to a job that has ended."""
    _, output, _ = service.client("jobs", "watch", name)  # the exit status is the job's own
    return [json.loads(line) for line in output.splitlines()]


def states(events):
    return [plain(event["stateChange"]["state"]) for event in events if "stateChange" in event]


def published(events):
    return [event["artifact"]["uri"] for event in events if "artifact" in event]


def stored(service, job):
    """All that a store has of a job, without times."""
    entry = {"name": job["name"], "kind": plain(job["kind"]), "state": plain(job["state"]),
             "labels": job["labels"], "request": request(job), "artifacts": job["artifactUris"],
             "attempts": [[a["number"], a["outcome"]] for a in job["attempts"]],
             "error": job.get("error"), "result": result_of(job, ran=False)}
    if entry["state"] != "QUEUED":
        events = history(service, job["name"])
        entry |= {"events": int(events[-1]["sequence"]), "states": states(events),
                  "published": published(events)}
    return entry


def outcome(service, job):
    """What became of a job that waited, with what it published."""
    events = history(service, job["name"])
    return {"state": plain(job["state"]), "attempts": [a["outcome"] for a in job["attempts"]],
            "error": job.get("error"), "artifacts": job["artifactUris"], "states": states(events),
            "published": published(events), "result": result_of(job, ran=True)}


def all_jobs(service):
    """Case -> the job as `jobs get` prints it."""
    return {job["labels"]["case"]: service.ask("jobs", "get", job["name"])
            for job in service.jobs()}


# ---------------------------------------------------------------------------------- what it holds

def compress_flags(**changes):
    settings = {"model": MODEL, "calibration": TEXT, "keep_ratio": "0.6",
                "calibration_samples": 4, "calibration_seq_len": 64, **changes}
    return [f"--{name}={entry}" for name, value in settings.items() if value is not None
            for entry in (value if isinstance(value, list) else [value])]


def evaluate_flags(model):
    return [f"--model={model}", f"--baseline={MODEL}", "--tasks=perplexity,multiple_choice,piqa",
            f"--dataset=lines={TEXT}", f"--dataset=cubes={OTHER_TEXT}",
            f"--dataset=multiple_choice={QUESTIONS}", f"--dataset=piqa={GOALS}",
            f"--answers=piqa={ANSWERS}", f"--fewshot=multiple_choice=2:{EXAMPLES}",
            "--limit=5", "--seq_len=64"]


SPEED = {"throughput": "1,2", "prompt_tokens": 16, "new_tokens": 4, "repetitions": 2}


def finish_jobs(service):
    """Jobs that end by themselves; the artifact of one is evaluated."""
    measured = {"evaluation": f"cubes={OTHER_TEXT}", "evaluation_seq_len": 64,
                "evaluation_limit": 6, "task": f"multiple_choice={QUESTIONS}", "task_limit": 4}
    submit(service, "finished-svd_llm", "compress", *compress_flags(
        method="svd_llm", keep_ratio="0.8,0.5", **SPEED, **measured))
    submit(service, "finished-default", "compress", *compress_flags(**measured))
    submit(service, "failed", "compress", *compress_flags(task=f"multiple_choice={BROKEN}"))
    service.await_all()
    artifact = all_jobs(service)["finished-svd_llm"]["artifactUris"][1]
    submit(service, "finished-accepted", "evaluate", *evaluate_flags(artifact),
           "--max_accuracy_drop=1", "--max_perplexity_increase=10")
    submit(service, "finished-regressed", "evaluate", *evaluate_flags(OTHER_MODEL),
           "--max_perplexity_increase=0")
    submit(service, EARLY_FORM, "evaluate", f"--model={MODEL}", f"--dataset={TEXT}",
           "--seq_len=64")
    service.await_all()


def queue_jobs(service, proto):
    """Jobs that wait: every way of compressing, and every part of a request that can be set."""
    def compress(case, **changes):
        submit(service, case, "compress", *compress_flags(output=f"queued/{case}", **changes))

    for method in METHODS:
        for encoding in ENCODINGS:
            for form in FORMATS:
                compress(f"{method}-{encoding}-{form.lower()}", method=method, encoding=encoding,
                         output_format=form)
    for allocation in ALLOCATIONS:
        compress(f"allocation-{allocation}", method="svd_llm", allocation=allocation,
                 keep_ratio="0.8,0.5")
    compress("settings-asvd", method="asvd", asvd_alpha=0.8, rank_multiple=2, no_evaluation="true")
    compress("settings-anchored", method="anchored", allocation="d_rank", anchor_blend=0.25,
             anchor_ridge=1e-3, min_keep_ratio=0.3, seed=11)
    compress("documents", method="svd_llm", calibration=DOCUMENTS, packing="DOCUMENTS",
             text_field="body", first_document=3, evaluation=f"more={DOCUMENTS}",
             evaluation_packing="DOCUMENTS", evaluation_limit=5)
    compress(SAMPLED, method="svd_llm", calibration=[f"3:{TEXT}", OTHER_TEXT, "2:MODEL_SAMPLES"],
             calibration_samples=6, evaluation=[f"lines={TEXT}", OTHER_TEXT],
             evaluation_seq_len=32, evaluation_limit=4, task=f"multiple_choice={QUESTIONS}",
             task_limit=4, fewshot=f"multiple_choice=1:{EXAMPLES}", **SPEED, timeout="1h",
             label="owner=somebody")
    compress("defaults", calibration_samples=None, calibration_seq_len=None)
    # Shorthands that the client never sends, but others may.
    send(service, proto, "CompressModel", "CompressModelRequest", f"""
        labels {{ key: "case" value: "shorthand" }} model: "{MODEL}" keep_ratios: 0.6
        method: SVD_LLM output_uri: "queued/shorthand"
        calibration {{ text {{ uri: "{TEXT}" }} samples: 4 seq_len: 64 }}
        evaluation {{ text {{ uri: "{OTHER_TEXT}" }} seq_len: 64 limit: 3 }}""")
    submit(service, "evaluation", "evaluate", *evaluate_flags(OTHER_MODEL),
           "--output=queued/evaluation", "--max_accuracy_drop=0.5", "--max_perplexity_increase=0")
    submit(service, "evaluation-speed", "evaluate", f"--model={MODEL}",
           *[f"--{name}={value}" for name, value in SPEED.items()],
           "--output=queued/evaluation-speed")
    submit(service, "cancelled", "compress", *compress_flags())
    service.ask("jobs", "cancel", all_jobs(service)["cancelled"]["name"])


def queue_few_jobs(service):
    """Jobs that wait: one of each kind, with what 0.1.0 had not."""
    submit(service, "compression", "compress",
           *compress_flags(output="queued/compression", method="svd_llm", keep_ratio="0.8,0.5",
                           calibration=[f"3:{TEXT}", OTHER_TEXT], display_name="With a name",
                           tasks="perplexity,multiple_choice", limit=4, seq_len=32,
                           dataset=[OTHER_TEXT, f"multiple_choice={QUESTIONS}"], timeout="1h",
                           max_perplexity_increase=100))
    submit(service, "evaluation", "evaluate", *evaluate_flags(OTHER_MODEL),
           "--output=queued/evaluation", "--max_accuracy_drop=0.5", "--max_perplexity_increase=0")
    submit(service, "cancelled", "compress", *compress_flags())
    service.ask("jobs", "cancel", all_jobs(service)["cancelled"]["name"])


def submit(service, case, command, *flags):
    service.ask(command, *flags, f"--label=case={case}", "--detach")


def encode(proto, message, text):
    return subprocess.run(
        ["protoc", f"--encode=svdllm.v1.{message}", f"-I{proto}", "svdllm/v1/compression.proto"],
        input=text.encode(), stdout=subprocess.PIPE, check=True).stdout


def send(service, proto, call, message, text):
    """A request as it is written here, past the client."""
    body = encode(proto, message, text)
    done = subprocess.run(
        ["curl", "-sS", "--http2-prior-knowledge", "-H", "content-type: application/grpc",
         "-H", "te: trailers", "--data-binary", "@-",
         f"http://{service.address}/svdllm.v1.CompressionService/{call}"],
        input=b"\0" + struct.pack(">I", len(body)) + body, stdout=subprocess.PIPE, check=True)
    if len(done.stdout) <= 5:  # no more than an answer's prefix: the error is in the trailers
        raise RuntimeError(f"{call} was refused")


def put_early_result(store, job, proto):
    """The result of an evaluation as it was stored before there were baselines."""
    result = job["evaluateResult"]
    model = result["model"]
    p = model["perplexities"][0]
    blob = encode(proto, "EvaluateResult", f"""
        parameters: {model["parameters"]} weight_bytes: {model["weightBytes"]}
        perplexities {{
          name: "{p["name"]}" perplexity: {p["perplexity"]!r} windows: {p["windows"]}
          predicted_tokens: {p["predictedTokens"]} leftover_tokens: {p["leftoverTokens"]}
          seconds: {p["seconds"]!r} tokens_per_second: {p["tokensPerSecond"]!r}
        }}
        peak_host_bytes: {result["peakHostBytes"]} device: "cpu" """)
    with contextlib.closing(sqlite3.connect(store)) as db, db:
        changed = db.execute("UPDATE jobs SET result = ? WHERE id = ?",
                             (blob, job["name"].removeprefix("jobs/"))).rowcount
    if changed != 1:
        raise RuntimeError(f"{store} has no {job['name']}")


# --------------------------------------------------------------------------------------- commands

def layout(value, indent=""):
    """JSON in lines of 100 columns where they can be: what fits in one is in one."""
    text = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or len(indent) + len(text) < 98:
        return text
    deeper = indent + " "
    if isinstance(value, list):
        entries = [layout(entry, deeper) for entry in value]
    else:
        entries = [f"{json.dumps(key)}: {layout(entry, deeper)}" for key, entry in value.items()]
    left, right = "[]" if isinstance(value, list) else "{}"
    return left + "\n" + ",\n".join(deeper + entry for entry in entries) + "\n" + indent + right


def run_queued(arguments, cases, directory):
    """Case -> what becomes of it in a copy of the store."""
    data = f"{directory}/copy"
    os.makedirs(data)
    shutil.copy(f"{arguments.out}/jobs.db", f"{data}/jobs.db")
    with Service(arguments.server, arguments.client, data, *SERVER_FLAGS) as service:
        service.await_all()
        jobs = all_jobs(service)
        return {case: outcome(service, jobs[case]) for case in cases}


def make(arguments, directory):
    data = f"{directory}/data"
    store = f"{data}/jobs.db"
    with Service(arguments.server, arguments.client, data, *SERVER_FLAGS) as service:
        finish_jobs(service)
        early = all_jobs(service)[EARLY_FORM]
    put_early_result(store, early, arguments.proto)
    with Service(arguments.server, arguments.client, data, *SERVER_FLAGS, "--role=api") as service:
        if arguments.few:
            queue_few_jobs(service)
        else:
            queue_jobs(service, arguments.proto)
        jobs = {case: stored(service, job) for case, job in sorted(all_jobs(service).items())}
    with contextlib.closing(sqlite3.connect(store)) as db:
        db.execute("VACUUM")
    os.makedirs(arguments.out, exist_ok=True)
    shutil.copy(store, f"{arguments.out}/jobs.db")
    return {"inputs": input_digests(), "jobs": jobs}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["make", "expect"])
    for name in ("server", "client", "out"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--proto", help="with make: what holds svdllm/v1/compression.proto")
    parser.add_argument("--few", action="store_true")
    arguments = parser.parse_args()
    if arguments.command == "make" and not arguments.proto:
        parser.error("make needs --proto")
    path = f"{arguments.out}/expected.json"
    with inputs(), tempfile.TemporaryDirectory(prefix="svdllm-fixture-") as directory:
        if arguments.command == "make":
            expected = make(arguments, directory)
        else:
            with open(path) as file:
                expected = json.load(file)
        expected["processor"] = processor()
        waiting = [case for case, job in expected["jobs"].items() if job["state"] == "QUEUED"]
        expected["outcomes"] = run_queued(arguments, waiting, directory)
    with open(path, "w") as file:
        file.write(layout(expected) + "\n")


if __name__ == "__main__":
    main()
