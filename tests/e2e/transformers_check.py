#!/usr/bin/env python3
"""Perplexity of a model directory as transformers sees it, compared with what the service said.

    transformers_check.py --model DIR --text FILE --seq_len 512 [--limit N] [--expected PPL]

The windows are the service's: the whole text tokenised once with the special tokens of the
tokenizer, cut in windows of seq_len without overlap, the rest at the end dropped; each window is
scored from its own start, on ids[1:]. An artifact is loaded in one line, as a user would. Prints
JSON; exit status 1 where the figure is off or loading left a key over. Needs torch, transformers.
"""

import argparse
import json
import math
import sys
import time

import torch
import transformers


def load(directory, dtype):
    """(model, what loading complained about)."""
    name = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        directory, trust_remote_code=True, output_loading_info=True, **{name: dtype})
    return model.eval(), {key: sorted(map(str, value)) for key, value in info.items() if value}


def windows(directory, path, seq_len, limit):
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
    with open(path, encoding="utf-8", newline="") as file:
        ids = tokenizer(file.read(), verbose=False)["input_ids"]
    count = len(ids) // seq_len
    count = min(count, limit) if limit else count
    if count == 0:
        raise SystemExit(f"{path}: {len(ids)} tokens, less than one window of {seq_len}")
    return torch.tensor(ids[: count * seq_len]).reshape(count, seq_len), len(ids)


@torch.no_grad()
def mean_nll(model, ids, batch):
    total = 0.0
    for chunk in ids.split(batch):
        logits = model(chunk, use_cache=False).logits[:, :-1].double()
        total += torch.nn.functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), chunk[:, 1:].reshape(-1), reduction="sum").item()
    return total / (ids.shape[0] * (ids.shape[1] - 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--seq_len", type=int, default=2048)
    parser.add_argument("--limit", type=int, default=0, help="windows; 0: all")
    parser.add_argument("--expected", type=float, help="perplexity; without it nothing is compared")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="relative")
    parser.add_argument("--dtype", default="float32", help="of the arithmetic")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    model, complaints = load(args.model, getattr(torch, args.dtype))
    ids, tokens = windows(args.model, args.text, args.seq_len, args.limit)
    begin = time.monotonic()
    perplexity = math.exp(mean_nll(model, ids, args.batch))
    result = {
        "model": args.model, "class": type(model).__name__, "perplexity": perplexity,
        "windows": ids.shape[0], "seq_len": args.seq_len, "text_tokens": tokens,
        "parameters": sum(p.numel() for p in model.parameters()),
        "seconds": round(time.monotonic() - begin, 2), "loading_info": complaints,
        "transformers": transformers.__version__,
    }
    ok = not complaints and math.isfinite(perplexity)
    if args.expected is not None:
        result["expected"] = args.expected
        result["relative_difference"] = perplexity / args.expected - 1
        ok = ok and abs(result["relative_difference"]) <= args.tolerance
    result["ok"] = ok
    print(json.dumps(result, indent=2))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
