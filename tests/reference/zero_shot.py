#!/usr/bin/env python3
"""Zero-shot accuracy of checkpoints, dense or compressed, by transformers: the independent measure.

Multiple-choice tasks as lm-evaluation-harness asks and scores them: the choice whose tokens have the
largest summed log-likelihood after the prompt (acc), or the largest per character (acc_norm).
WinoGrande compares two prompts with one ending instead. A prompt and all its choices are one
sequence here, with an attention mask that keeps the choices apart, so a prompt is computed once.

    zero_shot.py --data DIR --limit 200 --out FILE.json MODEL...

DIR holds the published files: openbookqa/test.jsonl, winogrande/llm-foundry_winogrande.jsonl,
hellaswag/hellaswag_val_full.txt.bz2, arc/llm-foundry_arc_easy.jsonl, piqa/valid.jsonl with
valid-labels.lst, mathqa/test.json. Needs torch and transformers.
"""

import argparse
import bz2
import json
import pathlib
import re
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


# An item: (prompts, endings, gold). One prompt and several endings, or several prompts and one.
def openbookqa(data, _):
    for line in open(data / "openbookqa/test.jsonl"):
        doc = json.loads(line)
        choices = doc["question"]["choices"]
        gold = [choice["label"] for choice in choices].index(doc["answerKey"])
        yield [doc["question"]["stem"]], [choice["text"] for choice in choices], gold


def winogrande(data, _):
    for line in open(data / "winogrande/llm-foundry_winogrande.jsonl"):
        doc = json.loads(line)
        yield doc["context_options"], [doc["continuation"]], doc["gold"]


def hellaswag(data, limit):
    # Six lines a task: prompt, gold, four endings; cleaned by its publisher as the harness does.
    with bz2.open(data / "hellaswag/hellaswag_val_full.txt.bz2", "rt") as file:
        for _ in range(limit):
            lines = [file.readline().rstrip("\n") for _ in range(6)]
            if not lines[0]:
                return
            yield [lines[0]], lines[2:], int(lines[1])


def arc_easy(data, _):
    for line in open(data / "arc/llm-foundry_arc_easy.jsonl"):
        doc = json.loads(line)
        yield [doc["query"] + "\nAnswer:"], doc["choices"], doc["gold"]


def piqa(data, _):
    labels = (data / "piqa/valid-labels.lst").read_text().split()
    for line, label in zip(open(data / "piqa/valid.jsonl"), labels):
        doc = json.loads(line)
        yield [f"Question: {doc['goal']}\nAnswer:"], [doc["sol1"], doc["sol2"]], int(label)


def mathqa(data, _):
    for doc in json.loads((data / "mathqa/test.json").read_text()):
        options = re.findall(r"[abcd] \) .*?, |e \) .*?$", doc["options"])
        choices = [option[4:].rstrip(" ,") for option in options]
        yield [f"Question: {doc['Problem']}\nAnswer:"], choices, "abcde".index(doc["correct"])


TASKS = {task.__name__: task
         for task in (openbookqa, winogrande, hellaswag, arc_easy, piqa, mathqa)}


def encode_pair(tokenizer, prompt, ending):
    """(prompt ids, ending ids): the ending is what the whole has beyond the prompt's own tokens."""
    whole = tokenizer(f"{prompt} {ending}").input_ids
    length = len(tokenizer(prompt).input_ids)
    return whole[:length], whole[length:]


@torch.inference_mode()
def log_likelihoods(model, prompt, endings):
    """Sum of log p of each ending after the prompt, all in one forward pass."""
    ids, positions, group = list(prompt), list(range(len(prompt))), [0] * len(prompt)
    spans = []
    for number, ending in enumerate(endings, start=1):
        spans.append(range(len(ids), len(ids) + len(ending)))
        ids += ending
        positions += range(len(prompt), len(prompt) + len(ending))
        group += [number] * len(ending)
    group = torch.tensor(group)
    causal = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    visible = causal & ((group[None, :] == 0) | (group[None, :] == group[:, None]))
    mask = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
    hidden = model.model(input_ids=torch.tensor([ids]), position_ids=torch.tensor([positions]),
                         attention_mask=mask[None, None], use_cache=False).last_hidden_state[0]
    sums = []
    for span in spans:
        # The token before an ending's first one is the prompt's last.
        before = [len(prompt) - 1, *span[:-1]]
        scores = torch.log_softmax(model.lm_head(hidden[before]).float(), dim=-1)
        sums.append(scores[range(len(span)), ids[span.start:span.stop]].sum().item())
    return sums


def predict(model, tokenizer, prompts, endings):
    """(index by sum, index by sum per character)."""
    if len(prompts) > 1:
        pairs = [encode_pair(tokenizer, prompt, endings[0]) for prompt in prompts]
        sums = [log_likelihoods(model, prompt, [ending])[0] for prompt, ending in pairs]
        return max(range(len(sums)), key=sums.__getitem__), None
    pairs = [encode_pair(tokenizer, prompts[0], ending) for ending in endings]
    if all(pair[0] == pairs[0][0] for pair in pairs):
        sums = log_likelihoods(model, pairs[0][0], [ending for _, ending in pairs])
    else:  # a token reaches over the seam of some choice
        sums = [log_likelihoods(model, prompt, [ending])[0] for prompt, ending in pairs]
    per_char = [score / max(len(ending), 1) for score, ending in zip(sums, endings)]
    return (max(range(len(sums)), key=sums.__getitem__),
            max(range(len(sums)), key=per_char.__getitem__))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("models", nargs="+")
    args = parser.parse_args()
    results = {}
    for path in args.models:
        started = time.time()
        model = AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True,
                                                     dtype=torch.float32).eval()
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=True)
        scores = {}
        for name in args.tasks.split(","):
            hits, normed, count = 0, 0, 0
            for prompts, endings, gold in TASKS[name](args.data, args.limit):
                if count == args.limit:
                    break
                by_sum, by_length = predict(model, tokenizer, prompts, endings)
                hits += by_sum == gold
                normed += by_length == gold
                count += 1
            scores[name] = {"acc": hits / count, "items": count}
            if len(prompts) == 1:
                scores[name]["acc_norm"] = normed / count
        scores["mean_acc"] = sum(s["acc"] for s in scores.values()) / len(scores)
        results[path] = scores
        print(f"{path}: mean {scores['mean_acc']:.4f}  "
              + "  ".join(f"{k} {v['acc']:.3f}" for k, v in scores.items() if k != "mean_acc")
              + f"  ({time.time() - started:.0f} s)", flush=True)
        if args.out:
            args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
