#!/usr/bin/env python3
"""What transformers computes for the tiny checkpoints of tests/support, as tests/golden wants it.

    SVDLLM_TINY_FAMILIES_DIR=DIR families_test --gtest_filter=*WriteTinyCheckpoints
    family_logits.py DIR > tests/golden/families.json        (torch, transformers)
"""

import json
import pathlib
import sys

import torch
import transformers

IDS = [(t * 89 + 7) % 256 for t in range(40)]  # longer than any window and any original length
TOKENS = (0, 3, 9, 17, 26, 39)
COLUMNS = (0, 31, 100, 177, 255)


def logits_of(directory):
    # eager: the other implementations leave soft-caps out.
    model, loading = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if loading[problem]:
            sys.exit(f"{directory}: {problem}: {loading[problem]}")
    with torch.no_grad():
        logits = model.eval()(torch.tensor([IDS]), use_cache=False).logits[0]
    return [[t, v, round(logits[t, v].item(), 6)] for t in TOKENS for v in COLUMNS]


def main():
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    root = pathlib.Path(sys.argv[1])
    logits = {path.name: logits_of(path) for path in sorted(root.iterdir()) if path.is_dir()}
    names = ",\n  ".join(f"{json.dumps(name)}: {json.dumps(rows)}" for name, rows in logits.items())
    print(f'{{"transformers": "{transformers.__version__}",\n "ids": {IDS},\n "logits": {{\n  '
          f"{names}\n }}}}")


if __name__ == "__main__":
    main()
