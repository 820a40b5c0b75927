#!/usr/bin/env python3
"""SVD-LLM as its paper describes it, in PyTorch, stage by stage and timed: what we compare with.

One Gram matrix for each linear layer, gathered by forward hooks as a full product, summed in fp32;
Cholesky in fp64, with the smallest eigenvalue and 1e-6 added where it fails; an explicit inverse;
torch.linalg.svd of every whitened matrix; factors U sqrt(S) and sqrt(S) V^T S^-1. Written from the
paper's formulae, without tricks of ours: no shared Grams, no output Grams, no symmetric products.

    textbook.py --model DIR --text FILE [--samples 64] [--seq_len 512] [--keep_ratio 0.8]
                [--threads 2] [--device cpu] [--dtype fp32] [--layers N] [--out DIR] [--json]

--dtype model: the forward pass in the checkpoint's own type, as on a GPU. --layers: only the first
N, and every stage but the tokenising scaled to all of them, by layers or by parameters; said so.
The total covers what our svd_llm job covers: load, tokenise, calibrate, factorise, write; no
evaluation. Imports are not counted. Needs torch, transformers, safetensors.
"""

import argparse
import contextlib
import json
import pathlib
import random
import shutil
import sys
import tempfile
import time

import torch
import transformers
from safetensors.torch import save_file

# LlamaForCausalLM is named to import it now: transformers would do so inside the timed part.
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401

ASSETS = pathlib.Path(__file__).resolve().parents[2] / "src" / "pipeline" / "assets"


class Stages:
    def __init__(self, device):
        self.seconds, self._device = {}, device

    @contextlib.contextmanager
    def __call__(self, name):
        if name not in self.seconds:
            print(f"{name} ...", file=sys.stderr, flush=True)
        begin = time.perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begin


def load_model(directory, device, dtype, layers):
    """(model that computes in fp32 or as it is stored, dtype of its checkpoint)."""
    name = "dtype" if int(transformers.__version__.split(".")[0]) >= 5 else "torch_dtype"
    fewer = {"num_hidden_layers": layers} if layers else {}
    model = AutoModelForCausalLM.from_pretrained(directory, **{name: "auto"}, **fewer)
    stored = model.dtype
    return (model.float() if dtype == "fp32" else model).to(device).eval(), stored


def scale_to_all_layers(seconds, directory, layers, model):
    """What the stages would take for the whole model: (their seconds, a sentence)."""
    config = json.loads((pathlib.Path(directory) / "config.json").read_text())
    every = config["num_hidden_layers"]
    held = sum(value.numel() for value in model.parameters())
    layer = sum(value.numel() for value in model.model.layers[0].parameters())
    whole = held + (every - layers) * layer
    by = {"tokenise": 1.0, "load": whole / held, "write": whole / held}
    return ({name: value * by.get(name, every / layers) for name, value in seconds.items()},
            f"scaled from {layers} of {every} layers")


def calibration_ids(directory, path, samples, seq_len, seed):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    text = pathlib.Path(path).read_text(encoding="utf-8")
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    if len(ids) < seq_len:
        raise SystemExit(f"{path}: {len(ids)} tokens, less than one sequence of {seq_len}")
    draw = random.Random(seed)
    begins = [draw.randint(0, len(ids) - seq_len) for _ in range(samples)]
    return torch.stack([ids[begin: begin + seq_len] for begin in begins])


def decoder_linears(model):
    return {f"model.layers.{name}": module for name, module in model.model.layers.named_modules()
            if isinstance(module, torch.nn.Linear)}


@torch.no_grad()
def gather_grams(model, linears, ids):
    grams, handles = {}, []

    def hook_for(name):
        def hook(_, inputs, __):
            x = inputs[0].float()
            grams[name] = grams.get(name, 0) + torch.matmul(x.transpose(1, 2), x).sum(dim=0)
        return hook

    for name, module in linears.items():
        handles.append(module.register_forward_hook(hook_for(name)))
    for sequence in ids:
        model.model(sequence[None].to(model.device), use_cache=False)
    for handle in handles:
        handle.remove()
    return grams


def whitening_matrix(gram):
    gram = gram.double()
    try:
        return torch.linalg.cholesky(gram), False
    except torch.linalg.LinAlgError:
        shift = 1e-6 - torch.linalg.eigvalsh(gram)[0]
        gram += shift * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        return torch.linalg.cholesky(gram), True


def factorise(weight, whitening, rank):
    """(W_v [rank, in], W_u [out, rank])."""
    whitening = whitening.float()
    inverse = torch.linalg.inv(whitening)
    u, s, vt = torch.linalg.svd(weight.float() @ whitening, full_matrices=False)
    root = s[:rank].sqrt()
    return root[:, None] * (vt[:rank] @ inverse), u[:, :rank] * root


def write_artifact(source, out, model, dtype, factors, keep_ratio):
    """A directory that loads in one line, so that its perplexity can be measured as ours is."""
    tied = model.config.tie_word_embeddings
    tensors = {name: value.to(dtype).contiguous() for name, value in model.state_dict().items()
               if name.removesuffix(".weight") not in factors and not (tied and "lm_head" in name)}
    for name, (a, b) in factors.items():
        tensors[f"{name}.low_rank_a.weight"] = a.to(dtype).contiguous()
        tensors[f"{name}.low_rank_b.weight"] = b.to(dtype).contiguous()
    save_file({name: value.cpu() for name, value in tensors.items()}, out / "model.safetensors",
              metadata={"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    config.update({
        "architectures": ["LowRankLlamaForCausalLM"], "model_type": "lowrank_llama",
        "auto_map": {"AutoConfig": "configuration_svdllm.LowRankLlamaConfig",
                     "AutoModel": "modeling_svdllm.LowRankLlamaModel",
                     "AutoModelForCausalLM": "modeling_svdllm.LowRankLlamaForCausalLM"},
        "low_rank_config": {
            "format_version": 1, "method": "svd_llm", "keep_ratio": keep_ratio, "encoding": "plain",
            "modules": {name: {"rank": len(a)} for name, (a, _) in factors.items()}},
    })
    (out / "config.json").write_text(json.dumps(config, indent=2))
    copied = list(ASSETS.glob("*_svdllm.py")) + list(source.glob("*token*")) + \
        list(source.glob("generation_config.json"))
    for path in copied:
        shutil.copy(path, out / path.name)


def run(args, out):
    device = torch.device(args.device)
    stage = Stages(device)
    begin = time.perf_counter()
    with stage("load"):
        model, dtype = load_model(args.model, device, args.dtype, args.layers)
    with stage("tokenise"):
        ids = calibration_ids(args.model, args.text, args.samples, args.seq_len, args.seed)
    linears = decoder_linears(model)
    with stage("calibrate"):
        grams = gather_grams(model, linears, ids)
    factors, repaired = {}, 0
    for name, module in linears.items():
        rows, cols = module.weight.shape
        rank = int(args.keep_ratio * rows * cols / (rows + cols) + 1e-9)
        if rank < 1 or rank * (rows + cols) >= rows * cols:
            continue
        with stage("cholesky"):
            whitening, fixed = whitening_matrix(grams.pop(name))
            repaired += fixed
        with stage("inverse and svd"), torch.no_grad():
            factors[name] = factorise(module.weight, whitening, rank)
    with stage("write"):
        write_artifact(pathlib.Path(args.model), out, model, dtype, factors, args.keep_ratio)
    total, seconds, scaled = time.perf_counter() - begin, stage.seconds, None
    if args.layers:
        seconds, scaled = scale_to_all_layers(seconds, args.model, args.layers, model)
        total = sum(seconds.values())
    return {
        "total_seconds": round(total, 3), "scaled": scaled,
        "stages_seconds": {name: round(value, 3) for name, value in seconds.items()},
        "matrices": len(factors), "cholesky_repaired": repaired, "samples": args.samples,
        "seq_len": args.seq_len, "keep_ratio": args.keep_ratio, "device": args.device,
        "threads": torch.get_num_threads(), "torch": torch.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--seq_len", type=int, default=512)
    parser.add_argument("--keep_ratio", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["fp32", "model"], default="fp32")
    parser.add_argument("--layers", type=int, default=0, help="only the first so many; 0: all")
    parser.add_argument("--out", type=pathlib.Path, help="keep the result there")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        out = args.out or pathlib.Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        result = run(args, out)
    if args.json:
        print(json.dumps(result, indent=2))
        return
    for name, seconds in result["stages_seconds"].items():
        print(f"{name:20s} {seconds:9.2f} s")
    print(f"{'total':20s} {result['total_seconds']:9.2f} s")
    if result["scaled"]:
        print(result["scaled"])


if __name__ == "__main__":
    main()
