"""A LLaMA in numpy, in double precision: the reference forward pass, block by block.

Reads a Hugging Face directory, dense or one of our artifacts (whose factors are multiplied out).
Written for reading, not for speed; a sequence is a [tokens, hidden] array, positions from 0.
"""

import json
import pathlib

import numpy as np

LINEARS = {  # module below a layer -> the site whose activation it reads
    "self_attn.q_proj": "attn_in",
    "self_attn.k_proj": "attn_in",
    "self_attn.v_proj": "attn_in",
    "self_attn.o_proj": "o_in",
    "mlp.gate_proj": "mlp_in",
    "mlp.up_proj": "mlp_in",
    "mlp.down_proj": "down_in",
}


NUMPY_TYPES = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4"}


class SafetensorsFile:
    """Tensors of one file as float64 arrays; the file is memory-mapped."""

    def __init__(self, path):
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            self.header = json.loads(file.read(size))
        self.header.pop("__metadata__", None)
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r", offset=8 + size)

    def get(self, name):
        entry = self.header[name]
        begin, end = entry["data_offsets"]
        raw = np.frombuffer(self._bytes[begin:end].tobytes(), dtype=NUMPY_TYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":
            raw = (raw.astype(np.uint32) << 16).view(np.float32)
        return raw.astype(np.float64).reshape(entry["shape"])


class Model:
    """config, and per layer {module: W [out, in]}, {module: bias}; W may be replaced in place."""

    def __init__(self, directory):
        directory = pathlib.Path(directory)
        self.config = json.loads((directory / "config.json").read_text())
        self._files = {}
        for path in sorted(directory.glob("*.safetensors")):
            file = SafetensorsFile(path)
            self._files.update({name: file for name in file.header})
        c = self.config
        self.num_layers = c["num_hidden_layers"]
        self.heads = c["num_attention_heads"]
        self.kv_heads = c.get("num_key_value_heads") or self.heads
        self.head_dim = c.get("head_dim") or c["hidden_size"] // self.heads
        self.eps = c["rms_norm_eps"]
        rope = dict(c.get("rope_parameters") or c.get("rope_scaling") or {})
        self.rope_theta = rope.pop("rope_theta", c.get("rope_theta", 10000.0))
        if rope.get("rope_type", rope.get("type", "default")) != "default":
            raise ValueError(f"rope scaling is not covered by this reference: {rope}")
        self.embedding = self.tensor("model.embed_tokens.weight")
        self.final_norm = self.tensor("model.norm.weight")
        tied = c.get("tie_word_embeddings")
        self.head = self.embedding if tied else self.tensor("lm_head.weight")

    def has(self, name):
        return name in self._files

    def tensor(self, name):
        return self._files[name].get(name)

    def factors(self, layer, module):
        """(A [r, in], B [out, r]) of a compressed linear, None for a dense one.

        A pivoted one has some of W's rows as A: B is the identity over T, in the order of W's rows.
        """
        prefix = f"model.layers.{layer}.{module}."
        if not self.has(prefix + "low_rank_a.weight"):
            return None
        a, b = self.tensor(prefix + "low_rank_a.weight"), self.tensor(prefix + "low_rank_b.weight")
        if self.has(prefix + "low_rank_order"):
            order = self.tensor(prefix + "low_rank_order").astype(np.int64)
            b = np.concatenate([np.eye(len(a)), b])[order]
        return a, b

    def load_block(self, layer):
        """One block's arrays: module -> W, module + ".bias" -> bias, and the two norms."""
        prefix = f"model.layers.{layer}."
        block = {norm: self.tensor(f"{prefix}{norm}.weight")
                 for norm in ("input_layernorm", "post_attention_layernorm")}
        for module in LINEARS:
            factors = self.factors(layer, module)
            block[module] = (factors[1] @ factors[0] if factors
                             else self.tensor(f"{prefix}{module}.weight"))
            for bias in (f"{prefix}{module}.bias", f"{prefix}{module}.low_rank_b.bias"):
                if self.has(bias):
                    block[module + ".bias"] = self.tensor(bias)
        return block

    def embed(self, ids):
        return self.embedding[np.asarray(ids)]

    def logits(self, x):
        return rms_norm(x, self.final_norm, self.eps) @ self.head.T


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


def rotate(x, theta):
    """x [heads, tokens, head_dim]: pair (i, i + head_dim/2) turned by position * theta^(-2i/d)."""
    _, tokens, dim = x.shape
    angle = np.arange(tokens)[:, None] * theta ** (-np.arange(0, dim, 2) / dim)
    cos, sin = np.cos(angle), np.sin(angle)
    first, second = x[..., : dim // 2], x[..., dim // 2:]
    return np.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def linear(block, module, x):
    y = x @ block[module].T
    return y + block[module + ".bias"] if module + ".bias" in block else y


def attention(model, block, x):
    """The mixed heads, before o_proj. x is normed."""
    tokens = len(x)

    def split(module, heads):
        return linear(block, module, x).reshape(tokens, heads, model.head_dim).swapaxes(0, 1)

    q = rotate(split("self_attn.q_proj", model.heads), model.rope_theta)
    k = rotate(split("self_attn.k_proj", model.kv_heads), model.rope_theta)
    v = split("self_attn.v_proj", model.kv_heads)
    group = model.heads // model.kv_heads
    k, v = np.repeat(k, group, axis=0), np.repeat(v, group, axis=0)
    scores = q @ k.swapaxes(1, 2) / np.sqrt(model.head_dim)
    scores[:, np.triu(np.ones((tokens, tokens), dtype=bool), 1)] = -np.inf
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    return (scores @ v).swapaxes(0, 1).reshape(tokens, -1)


def run_block(model, block, x, tap=None):
    """One decoder layer; tap(site, activation) sees what the linears read, in order."""
    tap = tap or (lambda site, activation: None)
    normed = rms_norm(x, block["input_layernorm"], model.eps)
    tap("attn_in", normed)
    mixed = attention(model, block, normed)
    tap("o_in", mixed)
    x = x + linear(block, "self_attn.o_proj", mixed)
    normed = rms_norm(x, block["post_attention_layernorm"], model.eps)
    tap("mlp_in", normed)
    gate = linear(block, "mlp.gate_proj", normed)
    down_in = gate / (1 + np.exp(-gate)) * linear(block, "mlp.up_proj", normed)
    tap("down_in", down_in)
    return x + linear(block, "mlp.down_proj", down_in)


def perplexity(model, blocks, sequences):
    """(exp of the mean NLL of ids[1:], predicted tokens); each sequence from its own start."""
    total, count = 0.0, 0
    for ids in sequences:
        x = model.embed(ids)
        for block in blocks:
            x = run_block(model, block, x)
        logits = model.logits(x)[:-1]
        top = logits.max(axis=-1)
        log_sum = top + np.log(np.exp(logits - top[:, None]).sum(axis=-1))
        total += float((log_sum - logits[np.arange(len(ids) - 1), ids[1:]]).sum())
        count += len(ids) - 1
    return float(np.exp(total / count)), count
