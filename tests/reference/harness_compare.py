#!/usr/bin/env python3
"""Our answers beside lm-evaluation-harness's own, item by item.

    harness_compare.py harness --model DIR --data DIR --out answers.json [--tasks a,b] [--limit 200]
        asks the harness: its task definitions, its model class, F32; the documents come from local
        files. Answers of other tasks that the file holds already are kept.
    harness_compare.py compare --harness answers.json --ours predictions.jsonl...
        prints a table, exit 1 where an item's prediction differs.

DATA holds the published files, as docs/tasks.md lists them. Where a file is a re-encoded one, the same
documents are put back into the form that the harness reads. GSM8K's examples are the last five of its
test file; `write-examples --data DIR --out FILE` writes them to a file for ours. Needs lm_eval, torch,
transformers, datasets, sacrebleu.
"""

import argparse
import bz2
import csv
import json
import pathlib
import sys
import tempfile


def lines_of(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def openbookqa(data):
    for doc in lines_of(data / "openbookqa/test.jsonl"):
        choices = doc["question"]["choices"]
        yield {"id": doc["id"], "question_stem": doc["question"]["stem"], "answerKey": doc["answerKey"],
               "choices": {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]}}


def winogrande(data):
    for doc in lines_of(data / "winogrande/llm-foundry_winogrande.jsonl"):
        first, second = doc["context_options"]
        same = 0
        while same < min(len(first), len(second)) and first[same] == second[same]:
            same += 1
        cut = first.rfind(" ", 0, same + 1) + 1
        yield {"sentence": first[:cut] + "_ " + doc["continuation"], "option1": first[cut:],
               "option2": second[cut:], "answer": str(doc["gold"] + 1)}


def hellaswag(data):
    with bz2.open(data / "hellaswag/hellaswag_val_full.txt.bz2", "rt", encoding="utf-8", newline="\n") as f:
        lines = f.read().split("\n")
    for start in range(0, len(lines) - 5, 6):
        yield {"query": lines[start], "label": int(lines[start + 1]), "choices": lines[start + 2:start + 6]}


def arc(data, name):
    for doc in lines_of(data / f"arc/llm-foundry_{name}.jsonl"):
        labels = "ABCDE"[:len(doc["choices"])]
        yield {"question": doc["query"].removeprefix("Question: "), "answerKey": labels[doc["gold"]],
               "choices": {"text": doc["choices"], "label": list(labels)}}


def piqa(data):
    labels = (data / "piqa/valid-labels.lst").read_text().split()
    for doc, label in zip(lines_of(data / "piqa/valid.jsonl"), labels):
        yield {**doc, "label": int(label)}


def mathqa(data):
    for doc in json.loads((data / "mathqa/test.json").read_text(encoding="utf-8")):
        yield {key: doc[key] for key in ("Problem", "options", "correct")}


def truthfulqa_gen(data):
    with open(data / "truthfulqa/TruthfulQA.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            split = {key: [answer.strip() for answer in row[column].split(";") if answer.strip()]
                     for key, column in (("correct_answers", "Correct Answers"),
                                         ("incorrect_answers", "Incorrect Answers"))}
            yield {"question": row["Question"], **split}


def gsm8k(data):
    yield from lines_of(data / "gsm8k/test.jsonl")


TASKS = {
    "openbookqa": openbookqa, "winogrande": winogrande, "hellaswag": hellaswag,
    "arc_easy": lambda data: arc(data, "arc_easy"),
    "arc_challenge": lambda data: arc(data, "arc_challenge"),
    "piqa": piqa, "mathqa": mathqa, "truthfulqa_gen": truthfulqa_gen, "gsm8k": gsm8k,
}
FEWSHOT = 5  # gsm8k


def make_task(name, docs, folder):
    """The harness's task, reading these documents."""
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    path = pathlib.Path(folder) / f"{name}.jsonl"
    path.write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")
    config = load_yaml(TaskManager().task_index[name].yaml_path)
    splits = {"test": str(path)}
    if name == "gsm8k":
        examples = pathlib.Path(folder) / "examples.jsonl"
        examples.write_text("".join(json.dumps(doc) + "\n" for doc in docs[-FEWSHOT:]), encoding="utf-8")
        splits["train"] = str(examples)
        config["fewshot_config"] = {"sampler": "first_n", "split": "train"}
        config["num_fewshot"] = FEWSHOT
    if name == "hellaswag":
        config.pop("process_docs")  # the file's text has gone through it
    config.update(dataset_path="json", dataset_name=None, dataset_kwargs={"data_files": splits},
                  training_split="train" if "train" in splits else None, validation_split=None,
                  test_split="test")
    return ConfigurableTask(config=config)


def ask_harness(args):
    import lm_eval
    from lm_eval.models.huggingface import HFLM

    out = pathlib.Path(args.out)
    answers = json.loads(out.read_text()) if out.exists() else {}
    model = HFLM(pretrained=str(args.model), dtype="float32", device="cpu", batch_size=args.batch)
    for name in args.tasks.split(","):
        docs = list(TASKS[name](args.data))
        with tempfile.TemporaryDirectory() as folder:
            task = make_task(name, docs, folder)
            result = lm_eval.evaluate(model, {name: task}, limit=args.limit, bootstrap_iters=0,
                                      log_samples=True)
        items = {}
        for sample in result["samples"][name]:
            item = items.setdefault(sample["doc_id"], {
                "arguments": sample["arguments"], "scores": {}, "target": sample["target"]})
            first = sample["resps"]
            item["resps"] = [r[0][0] for r in first] if isinstance(first[0][0], (list, tuple)) else first[0][0]
            item.setdefault("filtered", {})[sample["filter"]] = sample["filtered_resps"]
            item["scores"][sample["filter"]] = {m: float(sample[m]) for m in sample["metrics"]}
        answers[name] = {"items": [items[i] for i in sorted(items)],
                         "results": {k: v for k, v in result["results"][name].items()
                                     if isinstance(v, (int, float))}}
        out.write_text(json.dumps(answers, default=str) + "\n")
        print(name, answers[name]["results"], flush=True)


def first_maximum(values):
    return max(range(len(values)), key=lambda i: (values[i], -i))


def per_character(item, values):
    # A choice's length is that of its text; the one continuation of several contexts is no choice.
    contexts = {argument[0] for argument in item["arguments"]}
    lengths = [1 if len(contexts) > 1 else len(a[1].removeprefix(" ")) for a in item["arguments"]]
    return [v / n if n else float("-inf") for v, n in zip(values, lengths)]


def compare(args):
    answers = json.loads(pathlib.Path(args.harness).read_text())
    ours = {}
    for path in args.ours:
        for line in lines_of(path):
            if line["model"] == "model":
                ours.setdefault(line["task"], {})[line["index"]] = line
    failed = False
    print(f"{'task':<16}{'items':>6}{'equal':>7}{'worst':>10}  figures, ours / harness")
    for name, mine in ours.items():
        theirs = answers[name]["items"]
        equal, worst, figures = 0, 0.0, {}
        count = min(len(mine), len(theirs))
        for index in range(count):
            own, item = mine[index], theirs[index]
            scores = {k: v for one in item["scores"].values() for k, v in one.items()}
            if "exact_match" in scores:
                scores = {"exact_match": item["scores"]["strict-match"]["exact_match"],
                          "exact_match_flexible": item["scores"]["flexible-extract"]["exact_match"]}
            if "log_likelihoods" in own:
                a, b = own["log_likelihoods"], item["resps"]
                worst = max(worst, max(abs(x - y) for x, y in zip(a, b)))
                same = (first_maximum(a) == first_maximum(b) and own["prediction"] == first_maximum(a) and
                        first_maximum(per_character(item, a)) == first_maximum(per_character(item, b)))
            else:
                same = own["text"] == item["resps"]
            for metric, value in own["scores"].items():
                pair = figures.setdefault(metric, [0.0, 0.0])
                pair[0] += value / count
                pair[1] += scores[metric] / count
                if same and abs(value - scores[metric]) > 1e-9:
                    same = False
            equal += same
            if not same and args.verbose:
                print(json.dumps({"ours": own, "harness": item}, indent=1)[:4000])
        failed |= equal != count
        print(f"{name:<16}{count:>6}{equal:>7}{worst:>10.2g}  "
              + ", ".join(f"{m} {a:.4f}/{b:.4f}" for m, (a, b) in figures.items()))
    return 1 if failed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    harness = commands.add_parser("harness")
    harness.add_argument("--model", type=pathlib.Path, required=True)
    harness.add_argument("--data", type=pathlib.Path, required=True)
    harness.add_argument("--out", required=True)
    harness.add_argument("--tasks", default=",".join(TASKS))
    harness.add_argument("--limit", type=int, default=200)
    harness.add_argument("--batch", type=int, default=8)
    other = commands.add_parser("compare")
    other.add_argument("--harness", required=True)
    other.add_argument("--ours", nargs="+", required=True)
    other.add_argument("--verbose", action="store_true")
    examples = commands.add_parser("write-examples")
    examples.add_argument("--data", type=pathlib.Path, required=True)
    examples.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    if args.command == "harness":
        return ask_harness(args)
    if args.command == "compare":
        return compare(args)
    docs = list(gsm8k(args.data))[-FEWSHOT:]
    args.out.write_text("".join(json.dumps(doc) + "\n" for doc in docs), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
