#!/usr/bin/env python3
"""Makes tests/unit/formats/data/gguf_blocks.txt: random blocks of ggml's formats, and what they stand for.

    gguf_blocks.py OUTPUT

A line is "format hex-of-8-blocks sha256": the digest is that of the numbers, as the gguf package gives
them, in little-endian fp32.
Needs: pip install gguf
"""

import hashlib
import sys

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

# Where a block's half-precision scales are.
HALVES = {Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
          Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208]}


def main():
    rng = np.random.default_rng(7)
    with open(sys.argv[1], "w", encoding="ascii") as out:
        for kind, offsets in HALVES.items():
            size = GGML_QUANT_SIZES[kind][1]
            blocks = rng.integers(0, 256, (8, size), dtype=np.uint8)
            for offset in offsets:
                halves = (rng.standard_normal(8) * 10.0 ** rng.integers(-7, 2, 8)).astype(np.float16)
                blocks[:, offset:offset + 2] = halves.view(np.uint8).reshape(8, 2)
            numbers = np.ascontiguousarray(dequantize(blocks, kind), dtype="<f4")
            digest = hashlib.sha256(numbers.tobytes()).hexdigest()
            out.write(f"{kind.name} {blocks.tobytes().hex()} {digest}\n")


if __name__ == "__main__":
    main()
