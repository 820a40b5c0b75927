"""Models that are large for whoever plans them and small on the disk: their weights are holes."""

import json
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "e2e"))
import service_test as tiny  # noqa: E402


def write_hollow(path, hidden, intermediate, layers, heads, kv_heads, vocab=tiny.VOCAB):
    """A LLaMA of this shape in bfloat16, with a tokenizer of 260 tokens."""
    tiny.write_model(path)
    kv = hidden // heads * kv_heads
    shapes = {"model.embed_tokens.weight": [vocab, hidden], "model.norm.weight": [hidden]}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        shapes |= {
            prefix + "input_layernorm.weight": [hidden],
            prefix + "post_attention_layernorm.weight": [hidden],
            prefix + "self_attn.q_proj.weight": [hidden, hidden],
            prefix + "self_attn.k_proj.weight": [kv, hidden],
            prefix + "self_attn.v_proj.weight": [kv, hidden],
            prefix + "self_attn.o_proj.weight": [hidden, hidden],
            prefix + "mlp.gate_proj.weight": [intermediate, hidden],
            prefix + "mlp.up_proj.weight": [intermediate, hidden],
            prefix + "mlp.down_proj.weight": [hidden, intermediate]}
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with open(f"{path}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    with open(f"{path}/config.json", "w") as file:
        json.dump(tiny.config(hidden_size=hidden, intermediate_size=intermediate,
                              num_hidden_layers=layers, num_attention_heads=heads,
                              num_key_value_heads=kv_heads, vocab_size=vocab,
                              torch_dtype="bfloat16"), file)
    return path


def write_70b(path):
    """The shape of a LLaMA of 70 billion weights."""
    return write_hollow(path, 8192, 28672, 80, 64, 8, vocab=32000)


def write_long_header(path, size=99_000_000):
    """The tiny model behind a header of this many bytes, nearly all of them remarks.

    A little less than the 100 MB that a header may have.
    """
    tiny.write_model(path)
    with open(f"{path}/model.safetensors", "rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header, data = file.read(length), file.read()
    remark = '"%08x":"a remark",'
    count = size // len(remark % 0)
    remarks = "".join(remark % i for i in range(count))[:-1]
    header = b'{"__metadata__":{' + remarks.encode() + b"}," + header.strip()[1:]
    with open(f"{path}/model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + data)
    return path
