#!/usr/bin/env python3
"""Token ids from the reference implementations, as digests to compare with ours.

    tokenizers_reference.py [--times] [--records] DIR FILE...

Prints "sha256 count file" for each file: the SHA-256 of its ids as little-endian 32-bit numbers, and
how many they are, special tokens included. tests/unit/tokenizer/tokenize_file prints the same for
ours. DIR holds tokenizer.json (read by the tokenizers package) or tokenizer.model (read by
transformers' slow LlamaTokenizer, which transformers has up to version 4). Text is decoded with
errors="replace".

--records encodes the parts of a file between U+001E characters one by one, -1 after each.
Needs: pip install tokenizers "transformers<5" sentencepiece protobuf
"""

import argparse
import array
import hashlib
import os
import sys
import time


def load(directory):
    path = os.path.join(directory, "tokenizer.json")
    if os.path.exists(path):
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(path)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return lambda text: tokenizer.encode(text).ids
    from transformers import LlamaTokenizer

    tokenizer = LlamaTokenizer.from_pretrained(directory)
    return tokenizer.encode


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--records", action="store_true")
    parser.add_argument("dir")
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    encode = load(args.dir)
    for file in args.files:
        with open(file, "rb") as f:
            raw = f.read()
        text = raw.decode("utf-8", errors="replace")
        start = time.perf_counter()
        if args.records:
            ids = []
            for record in text.split("\x1e"):
                ids += list(encode(record)) + [-1]
        else:
            ids = encode(text)
        seconds = time.perf_counter() - start
        numbers = array.array("i", ids)
        if sys.byteorder == "big":
            numbers.byteswap()
        line = f"{hashlib.sha256(numbers.tobytes()).hexdigest()} {len(ids)} {file}"
        print(line + (f" {len(raw) / 1e6 / seconds:.2f} MB/s" if args.times else ""), flush=True)


if __name__ == "__main__":
    main()
