#!/usr/bin/env python3
"""Compares our tokenizers with the reference implementations, string by string.

    tokenizer_compare.py --tool TOKENIZE_FILE [--fuzz N] [--seed S] DIR... [--files GLOB...]

For each DIR (see tokenizers_reference.py): the ids of every file, of a Unicode torture set (every
block of code points, combining marks, emoji sequences, line ends, invalid UTF-8, megabytes without a
space) and of N fuzzed strings; the text of their ids, and of random ids, with and without special
tokens. Prints a row for each DIR (megabytes of the first WikiText file, or of the first file, a
second of processor time), and the first strings that differ; exits 1 where any does.
"""

import argparse
import array
import bz2
import glob
import gzip
import os
import random
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from tokenizers_reference import load  # noqa: E402

WORDS = """the The THE a of and hill we'll WE'LL they'RE it's I'm you'd she've don't cannot 'tis O'Neil
    isn’t matrix rank naïve cœur Straße Ünïcödé def return {} () [] == != -> :: // /* */ <s> </s> <unk>
    <|endoftext|> <|begin_of_text|> <|im_start|> <|eot_id|> <pad> [INST] [/INST] <0x0A> <0xE2> http://x.y
    3.14 2024 1998 20245 1,000,000 ½ Ⅷ ²³ ١٢٣ １２３ 日本語 漢字 かな カナ 한국어 Привет мир שלום مرحبا हिन्दी
    ไทย ქართული ελληνικά 𝒜𝒷𝒸 ﬁne ǅ ﷺ""".split()
EMOJI = ["\U0001f600", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea",
         "\U0001f44d\U0001f3fd", "\u2764\ufe0f", "1\ufe0f\u20e3", "\U0001f3f4\U000e0067\U000e007f"]
SPACES = [" ", "  ", "   ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u2003", "\u3000", "\u2028",
          "\u200b", "\u0085", "\u2581", "\ufeff", " " * 17]


def code_point(rng):
    while True:
        top = rng.choice((0x80, 0x250, 0x3000, 0x10000, 0x20000, 0x110000))
        c = rng.randrange(top)
        if not 0xd800 <= c < 0xe000:
            return chr(c)


def fuzzed(rng):
    parts = []
    for _ in range(rng.randrange(1, 24)):
        kind = rng.randrange(10)
        if kind < 3:
            parts.append(rng.choice(WORDS))
        elif kind < 5:
            parts.append(rng.choice(SPACES))
        elif kind == 5:
            ascii_text = "abcxyzABC019_'\"-.,;!?()[]{}<>|/\\@#"
            parts.append("".join(rng.choice(ascii_text) for _ in range(rng.randrange(12))))
        elif kind == 6:
            parts.append("".join(code_point(rng) for _ in range(rng.randrange(1, 6))))
        elif kind == 7:
            parts.append(rng.choice("aeoAEOが각") + "".join(chr(rng.randrange(0x300, 0x370))
                                                       for _ in range(rng.randrange(1, 4))))
        elif kind == 8:
            parts.append(rng.choice(EMOJI))
        else:
            parts.append(rng.choice(WORDS) * rng.randrange(1, 5))
    raw = "".join(parts).encode()
    if rng.randrange(8) == 0:
        raw = bytearray(raw)
        for _ in range(rng.randrange(1, 4)):
            raw.insert(rng.randrange(len(raw) + 1), rng.randrange(128, 256))
        raw = bytes(raw[:rng.randrange(len(raw) + 1)])
    return raw


def torture(rng):
    for block in range(0, 0x110000, 0x100):
        chars = [chr(c) for c in range(block, block + 0x100) if not 0xd800 <= c < 0xe000]
        if chars:
            yield "".join(chars).encode()
            yield " ".join(chars).encode()
            yield "".join(f"a{c}1 " for c in chars).encode()
    marks = [chr(c) for c in range(0x300, 0x370)]
    yield ("e" + "".join(rng.choice(marks) for _ in range(3000))).encode()
    yield "".join(c + m for c in "aeiouAEIOUyn" for m in marks).encode()
    yield "".join(EMOJI).encode() * 50
    yield "\r\n".join(["line", "", " two", "\tthree ", "", "", "end"]).encode() * 20
    for invalid in (b"\xff", b"\xc0\xaf", b"\xe2\x96", b"\xf0\x9f\x98", b"\xed\xa0\x80",
                    b"\xf4\x90\x80\x80", b"\x80" * 9):
        yield b"a" + invalid + b"b " + invalid + b" c" + invalid
    yield bytes(rng.randrange(256) for _ in range(100000))
    letters = "abcdefghijklmnopqrstuvwxyz"
    yield "".join(rng.choice(letters) for _ in range(1000000)).encode()
    yield ("e" * 1000000).encode()
    yield "".join(chr(rng.randrange(0x4e00, 0x9fff)) for _ in range(340000)).encode()
    yield "".join(rng.choice(EMOJI) for _ in range(60000)).encode()
    yield b" " * 1000000
    yield b""


def read(path):
    opener = {".gz": gzip.open, ".bz2": bz2.open}.get(os.path.splitext(path)[1], open)
    with opener(path, "rb") as f:
        return f.read()


def run_tool(tool, mode, directory, records):
    with tempfile.TemporaryDirectory() as work:
        with open(work + "/in", "wb") as f:
            for record in records:
                if mode == "--decode":
                    f.write(struct.pack("<I", len(record)) + array.array("i", record).tobytes())
                else:
                    f.write(struct.pack("<I", len(record)) + record)
        subprocess.run([tool, mode, directory, work + "/in", work + "/out"], check=True)
        with open(work + "/out", "rb") as f:
            raw = f.read()
    pos = 0
    while pos < len(raw):
        (count,) = struct.unpack_from("<I", raw, pos)
        size = count * (4 if mode == "--encode" else 1)
        pos += 4
        record = raw[pos:pos + size]
        yield array.array("i", record).tolist() if mode == "--encode" else record.decode()
        pos += size


class Mismatches:
    def __init__(self, name):
        self.name, self.count = name, 0

    def add(self, what, given, ours, theirs):
        self.count += 1
        if self.count > 5:
            return
        at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
        print(f"  {self.name}: {what}: {given[:80]!r}: at {at}: ours {ours[at:at + 8]!r}, "
              f"theirs {theirs[at:at + 8]!r}", flush=True)


def speed(tool, directory, reference, text):
    """MB/s of the best of three, ours and theirs."""
    with tempfile.NamedTemporaryFile() as f:
        f.write(text)
        f.flush()
        ours = max(float(subprocess.run([tool, "--times", directory, f.name], check=True,
                                        capture_output=True, text=True).stdout.split()[-2])
                   for _ in range(3))
    best = 1e9
    decoded = text.decode(errors="replace")
    for _ in range(3):
        start = time.process_time()
        reference.encode(decoded)
        best = min(best, time.process_time() - start)
    return ours, len(text) / 1e6 / best


def compare(args, directory, files, sets):
    name = os.path.basename(os.path.normpath(directory))
    reference = load(directory)
    wrong = Mismatches(name)
    strings = [content for _, content in files] + sets
    ours = list(run_tool(args.tool, "--encode", directory, strings))
    assert len(ours) == len(strings)
    id_lists, refused = [], 0
    for given, got in zip(strings, ours):
        try:
            want = list(reference.encode(given.decode("utf-8", errors="replace")))
        except ValueError:  # tiktoken's expressions give up on the longest words
            refused += 1
            continue
        if got != want:
            wrong.add("ids", given, got, want)
        id_lists.append(want)
    rng = random.Random(args.seed + 1)
    highest = max(max(ids, default=0) for ids in id_lists)
    random_ids = [[rng.randrange(highest + 1) for _ in range(rng.randrange(1, 40))] for _ in range(2000)]
    # transformers' own decode takes quadratic time, or worse, for megabytes.
    id_lists = [ids for ids in id_lists if len(ids) < 20000] + random_ids
    texts = list(run_tool(args.tool, "--decode", directory, id_lists))
    for i, ids in enumerate(id_lists):
        for skip in (False, True):
            got, want = texts[2 * i + skip], reference.decode(ids, skip)
            if got != want:
                wrong.add(f"text, skip {skip}", ids, got, want)
    line = f"{name}: {len(files)} files, {len(sets)} strings, {len(texts)} decoded, {wrong.count} mismatches"
    line += f", {refused} refused by the reference" if refused else ""
    if files:
        english = next((c for n, c in files if "wiki.train" in n), files[0][1])[:1000000]
        line += ", MB/s ours %.1f theirs %.1f" % speed(args.tool, directory, reference, english)
    print(line, flush=True)
    return wrong.count == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--fuzz", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--files", nargs="*", default=[])
    parser.add_argument("--no-torture", action="store_true")
    parser.add_argument("dirs", nargs="+")
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    paths = sorted(p for pattern in args.files for p in glob.glob(pattern))
    files = [(path, read(path)) for path in paths]
    rng = random.Random(args.seed)
    sets = [] if args.no_torture else list(torture(rng))
    sets += [fuzzed(rng) for _ in range(args.fuzz)]
    results = [compare(args, directory, files, sets) for directory in args.dirs]
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
