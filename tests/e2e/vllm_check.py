#!/usr/bin/env python3
"""What vLLM generates from artifacts, against transformers.

    vllm_check.py --server BINARY --client BINARY [CASE...]

Makes a tiny LLaMA (random, briefly trained, so that no two tokens are near a tie), compresses it
through the service as CASES says, and generates greedily in float32 with vLLM, each case in a process
of its own, with as many workers as it names. The tokens must be those of transformers, which loads
the artifact in one line. A table is printed; exit status 1 where a token differs or vLLM fails.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

# name: (flags, numbers of workers)
CASES = {
    "plain": (["--method=svd_llm", "--keep_ratio=0.6"], (1, 2)),
    "default": (["--keep_ratio=0.7"], (1,)),
    "dense output": (["--method=svd_llm", "--keep_ratio=0.6", "--output_format=DENSE"], (1,)),
    # Some linears stay dense, of one kind in some of the layers.
    "mixed": (["--method=svd_llm", "--keep_ratio=0.8", "--allocation=relative_tails"], (1, 2)),
}
# vLLM's attention on a CPU wants heads of 32 numbers or more.
MODEL = dict(hidden_size=256, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, head_dim=64, max_position_embeddings=128,
             initializer_range=0.08)
PROMPTS, PROMPT, NEW_TOKENS = 3, 16, 24
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: one import less
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
}


def generate(request):
    """In a process of its own: what vLLM makes of the prompts, into a file."""
    from vllm import LLM, SamplingParams

    model = LLM(model=request["model"], trust_remote_code=True, dtype="float32",
                tensor_parallel_size=request["workers"], max_model_len=96, max_num_seqs=4,
                enforce_eager=True)
    outputs = model.generate(
        [{"prompt_token_ids": prompt} for prompt in request["prompts"]],
        SamplingParams(temperature=0.0, max_tokens=NEW_TOKENS, ignore_eos=True))
    tokens = [list(output.outputs[0].token_ids) for output in outputs]
    pathlib.Path(request["answer"]).write_text(json.dumps(tokens))


def with_vllm(artifact, workers, prompts, scratch):
    request, answer, log = (scratch / name for name in ("request.json", "tokens.json", "vllm.log"))
    answer.unlink(missing_ok=True)
    request.write_text(json.dumps({"model": artifact, "workers": workers, "prompts": prompts,
                                   "answer": str(answer)}))
    with log.open("w") as file:
        done = subprocess.run([sys.executable, __file__, "--generate", request], stdout=file,
                              stderr=subprocess.STDOUT, env={**os.environ, **ENVIRONMENT},
                              timeout=1800)
    if done.returncode != 0 or not answer.exists():
        errors = re.findall(r".*Error.*", log.read_text())
        raise RuntimeError("; ".join(errors[-3:]) or log.read_text()[-600:])
    return json.loads(answer.read_text())


def with_transformers(artifact, prompts):
    import torch
    import transformers_check

    model, complaints = transformers_check.load(artifact, torch.float32)
    if complaints:
        raise RuntimeError(f"transformers: {complaints}")
    ids = torch.tensor(prompts)
    with torch.no_grad():
        generated = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False,
                                   max_new_tokens=NEW_TOKENS, eos_token_id=None, pad_token_id=0)
    return generated[:, PROMPT:].tolist()


def make_model(scratch):
    """(its directory, the calibration text, prompts)."""
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "reference"))
    import make_families
    import torch

    make_families.FAMILIES["llama64"] = ("LlamaConfig", MODEL, "float32")
    sample = make_families.text(2, 60000)
    text = scratch / "calibration.txt"
    text.write_text(sample, encoding="utf-8")
    tokenizer = make_families.make_tokenizer(sample)
    ids = torch.tensor(tokenizer(sample, verbose=False)["input_ids"])
    make_families.make("llama64", scratch / "llama64", tokenizer, ids)
    starts = [500 * (i + 1) for i in range(PROMPTS)]
    return scratch / "llama64", text, [ids[start:start + PROMPT].tolist() for start in starts]


def compress(client, address, model, text, flags):
    done = subprocess.run(
        [client, "compress", f"--server={address}", f"--model={model}", f"--calibration={text}",
         "--calibration_samples=24", "--calibration_seq_len=64", "--no_evaluation", "--watch",
         "--format=json", *flags], capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError((done.stdout + done.stderr)[-600:])
    uri = json.loads(done.stdout)["compressModelResult"]["artifacts"][0]["uri"]
    return uri.removeprefix("file://")


def factored(artifact):
    """(factored linears, linears, whether some kind of linear is factored in some layers only)."""
    config = json.loads((pathlib.Path(artifact) / "config.json").read_text())
    modules = config.get("low_rank_config", {}).get("modules", {})
    layers = config["num_hidden_layers"]
    kinds = [name.split(".", 3)[3] for name in modules]
    return len(modules), 7 * layers, any(0 < kinds.count(kind) < layers for kind in kinds)


def check(args, scratch):
    import families_check
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    model, text, prompts = make_model(scratch)
    ok = True
    print(f"{'case':14} {'factored':>9} workers", flush=True)
    with families_check.service(args.server, scratch) as address:
        for name in args.cases or CASES:
            flags, numbers = CASES[name]
            artifact = compress(args.client, address, model, text, flags)
            count, of, partly = factored(artifact)
            expected = with_transformers(artifact, prompts)
            for workers in numbers:
                try:
                    tokens = with_vllm(artifact, workers, prompts, scratch)
                    equal = sum(a == b for x, y in zip(tokens, expected) for a, b in zip(x, y))
                    same = tokens == expected
                    note = f"{equal} of {PROMPTS * NEW_TOKENS} tokens equal"
                except (RuntimeError, subprocess.TimeoutExpired) as error:
                    same, note = False, str(error)
                if name == "mixed" and not partly:
                    same, note = False, "no kind of linear is factored in some layers only"
                ok &= same
                print(f"{name:14} {count:4} / {of:2} {workers:7}  {'ok ' if same else 'OFF'} {note}",
                      flush=True)
    return 0 if ok else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--generate", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--server")
    parser.add_argument("--client")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    args = parser.parse_args()
    if args.generate:
        return generate(json.loads(args.generate.read_text()))
    if not args.server or not args.client:
        parser.error("--server and --client are needed")
    for name in args.cases:
        if name not in CASES:
            parser.error(f"{name}: not one of {', '.join(CASES)}")
    with tempfile.TemporaryDirectory(prefix="svdllm-vllm-") as scratch:
        return check(args, pathlib.Path(scratch))


if __name__ == "__main__":
    sys.exit(main())
