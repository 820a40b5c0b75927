#!/usr/bin/env python3
"""Token ids from the reference implementations, as digests to compare with ours.

    tokenizers_reference.py [--times] DIR FILE...

Prints "sha256 count file" for each file: the SHA-256 of its ids as little-endian 32-bit numbers, and
how many they are, special tokens included. tests/unit/tokenizer/tokenize_file prints the same for
ours. Text is decoded with errors="replace". The reference of DIR is, by what it holds,

    tokenizer.json               the tokenizers package
    vocab.json and merges.txt    transformers' GPT2TokenizerFast or Qwen2TokenizerFast, by
                                 tokenizer_config.json's tokenizer_class
    tokenizer.model with ranks   tiktoken, set up as Meta's code for LLaMA 3 does
    tokenizer.model              transformers' slow LlamaTokenizer, which versions up to 4 have

Needs: pip install tokenizers "transformers<5" sentencepiece protobuf tiktoken
"""

import argparse
import array
import base64
import hashlib
import json
import os
import sys
import time


class Reference:
    def __init__(self, encode, decode):
        self.encode = encode  # text -> ids
        self.decode = decode  # ids, skip_special_tokens -> text


def read_json(path):
    if not os.path.exists(path):
        return {}
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def load_json(path):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Reference(lambda text: tokenizer.encode(text).ids,
                     lambda ids, skip: tokenizer.decode(ids, skip_special_tokens=skip))


def load_ranks(path):
    import tiktoken

    with open(path, "rb") as f:
        lines = f.read().splitlines()
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>",
             "<|reserved_special_token_1|>", "<|finetune_right_pad_id|>", "<|step_id|>",
             "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>",
             "<|image|>"]
    names += [f"<|reserved_special_token_{2 + i}|>" for i in range(256 - len(names))]
    special = {name: len(ranks) + i for i, name in enumerate(names)}
    encoding = tiktoken.Encoding(
        name="ranks", mergeable_ranks=ranks, special_tokens=special,
        pat_str=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
                r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
    special_ids = set(special.values())

    def decode(ids, skip):
        kept = [i for i in ids if not (skip and i in special_ids)]
        return encoding.decode(kept, errors="replace")

    return Reference(lambda text: [len(ranks)] + encoding.encode(text, allowed_special="all"), decode)


def load_transformers(tokenizer):
    return Reference(
        lambda text: tokenizer.encode(text),
        lambda ids, skip: tokenizer.decode(ids, skip_special_tokens=skip,
                                           clean_up_tokenization_spaces=False))


def load(directory):
    path = os.path.join(directory, "tokenizer.json")
    if os.path.exists(path):
        return load_json(path)
    if os.path.exists(os.path.join(directory, "vocab.json")):
        import transformers

        config = read_json(os.path.join(directory, "tokenizer_config.json"))
        kind = config.get("tokenizer_class", "GPT2Tokenizer").removesuffix("Fast") + "Fast"
        return load_transformers(getattr(transformers, kind).from_pretrained(directory))
    path = os.path.join(directory, "tokenizer.model")
    with open(path, "rb") as f:
        first = f.readline().split()
    if len(first) == 2 and first[1].isdigit():
        return load_ranks(path)
    from transformers import LlamaTokenizer

    return load_transformers(LlamaTokenizer.from_pretrained(directory))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", action="store_true")
    parser.add_argument("dir")
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    reference = load(args.dir)
    for file in args.files:
        with open(file, "rb") as f:
            raw = f.read()
        text = raw.decode("utf-8", errors="replace")
        start = time.process_time()
        ids = reference.encode(text)
        seconds = time.process_time() - start
        numbers = array.array("i", ids)
        if sys.byteorder == "big":
            numbers.byteswap()
        line = f"{hashlib.sha256(numbers.tobytes()).hexdigest()} {len(ids)} {file}"
        print(line + (f" {len(raw) / 1e6 / seconds:.2f} MB/s" if args.times else ""), flush=True)


if __name__ == "__main__":
    main()
