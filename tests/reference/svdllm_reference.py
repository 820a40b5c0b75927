#!/usr/bin/env python3
"""SVD-LLM in numpy, in double precision: what the service's arithmetic is checked against.

    svdllm_reference.py golden --model DIR --golden DIR --stories FILE [--keep_ratio 0.9,0.8]
        Recomputes the published figures of the tiny model with this code.
    svdllm_reference.py check-artifact --model DIR --artifact DIR --ids FILE
        Loss of every compressed matrix, ||(W - W')X||^2 from the factors as written, against the
        least possible, the sum of the eigenvalues of W G W^T after the first `rank`; X is the
        dense model's. For artifacts of the methods svd_llm, asvd and svd (the optimum is always
        svd_llm's). FILE holds a JSON list of lists of token ids.
    svdllm_reference.py perplexity --model DIR --ids FILE

Needs numpy; `golden` also sentencepiece. With small models set OPENBLAS_NUM_THREADS=1.
"""

import argparse
import json
import math
import pathlib
import sys

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from llama_fp64 import LINEARS, Model, SafetensorsFile, perplexity, run_block

ASVD_ALPHA = 0.5
METHODS = ("svd", "asvd", "svd_llm", "svd_llm_update")


def rank_for(keep_ratio, rows, cols):
    """The largest k with k(m + n) <= keep * m * n; None where that would not be smaller."""
    rank = int(keep_ratio * rows * cols / (rows + cols) + 1e-9)
    return rank if 0 < rank * (rows + cols) < rows * cols else None


class Statistics:
    """Sums over the calibration tokens of what one block's linears read, by site."""

    def __init__(self, model, block, activations):
        self.gram, self.absolute, self.tokens = {}, {}, 0
        self.outputs = [run_block(model, block, x, self._tap) for x in activations]

    def _tap(self, site, x):
        self.gram[site] = self.gram.get(site, 0) + x.T @ x
        self.absolute[site] = self.absolute.get(site, 0) + np.abs(x).sum(axis=0)
        if site == "attn_in":
            self.tokens += len(x)


def spectrum(w, gram):
    """Eigenvalues of W G W^T, descending, and eigenvectors; order min(m, n)."""
    rows, cols = w.shape
    if rows > cols:
        q, r = np.linalg.qr(w)
        values, vectors = np.linalg.eigh(r @ gram @ r.T)
        vectors = q @ vectors
    else:
        values, vectors = np.linalg.eigh(w @ gram @ w.T)
    return np.maximum(values[::-1], 0), vectors[:, ::-1]


def metric(method, stats, site):
    """The G in which the method truncates."""
    if method == "svd":
        return np.eye(len(stats.gram[site]))
    if method == "asvd":
        return np.diag((stats.absolute[site] / stats.tokens) ** (2 * ASVD_ALPHA))
    return stats.gram[site]


def factorise(method, w, stats, prefix_stats, site, rank):
    """(A [r, n], B [m, r]) with W' = B A."""
    _, vectors = spectrum(w, metric(method, stats, site))
    b = vectors[:, :rank]
    a = b.T @ w
    if method == "svd_llm_update":
        # Same row space; B refitted to W X': the compressed prefix through this dense block.
        h = prefix_stats.gram[site]
        b = np.linalg.lstsq(a @ h @ a.T, (w @ h @ a.T).T, rcond=1e-15)[0].T
    return a, b


def compress(model, sequences, method, keep_ratio):
    """(blocks with the compressed linears' products, stored numbers of all linears)."""
    dense = [model.embed(ids) for ids in sequences]
    prefix, stored, blocks = dense, 0, []
    for layer in range(model.num_layers):
        block = model.load_block(layer)
        stats = Statistics(model, block, dense)
        updating = method == "svd_llm_update"
        prefix_stats = Statistics(model, block, prefix) if updating else None
        compressed = dict(block)
        for module, site in LINEARS.items():
            rows, cols = block[module].shape
            rank = rank_for(keep_ratio, rows, cols)
            stored += rows * cols if rank is None else rank * (rows + cols)
            if rank is not None:
                a, b = factorise(method, block[module], stats, prefix_stats, site, rank)
                compressed[module] = b @ a
        dense = stats.outputs
        if updating:
            prefix = [run_block(model, compressed, x) for x in prefix]
        blocks.append(compressed)
    return blocks, stored


def check_artifact(model, artifact, sequences):
    """Per compressed matrix: loss, optimum, relative excess; least-squares losses, squared."""
    rows = []
    activations = [model.embed(ids) for ids in sequences]
    for layer in range(model.num_layers):
        block = model.load_block(layer)
        stats = Statistics(model, block, activations)
        activations = stats.outputs
        for module, site in LINEARS.items():
            factors = artifact.factors(layer, module)
            if factors is None:
                continue
            a, b = factors
            error = block[module] - b @ a
            loss = float(np.einsum("ij,ij->", error @ stats.gram[site], error))
            values, _ = spectrum(block[module], stats.gram[site])
            optimum, total = float(values[len(a):].sum()), float(values.sum())
            rows.append({"module": f"model.layers.{layer}.{module}", "rank": len(a), "loss": loss,
                         "optimum": optimum, "relative_excess": loss / optimum - 1,
                         "excess_of_total": (loss - optimum) / total})
        print(f"layer {layer} done", file=sys.stderr, flush=True)
    return rows


def check_command(args):
    model = Model(args.model)
    rows = check_artifact(model, Model(args.artifact), json.loads(args.ids.read_text()))
    if not rows:
        raise SystemExit(f"{args.artifact} has no compressed matrix")
    worst = max(rows, key=lambda row: row["relative_excess"])
    least = min(rows, key=lambda row: row["relative_excess"])
    return {"matrices": len(rows), "max_relative_excess": worst["relative_excess"],
            "worst": worst["module"], "min_relative_excess": least["relative_excess"],
            "max_excess_of_total": max(row["excess_of_total"] for row in rows),
            "loss": sum(row["loss"] for row in rows),
            "optimum": sum(row["optimum"] for row in rows), **({"rows": rows} if args.rows else {})}


def perplexity_command(args):
    model = Model(args.model)
    blocks = [model.load_block(layer) for layer in range(model.num_layers)]
    value, count = perplexity(model, blocks, json.loads(args.ids.read_text()))
    return {"perplexity": value, "predicted_tokens": count}


def stories(path, tokenizer, begin, end):
    texts = json.loads(path.read_text())[begin:end]
    return [([1] + tokenizer.encode(text.replace("\n\n", "\n")))[:512] for text in texts]


def golden_command(args):
    import sentencepiece

    model = Model(args.model)
    tokenizer = sentencepiece.SentencePieceProcessor(
        model_file=str(pathlib.Path(args.model) / "tokenizer.model"))
    evaluation = stories(args.stories, tokenizer, 0, 200)
    calibration = stories(args.stories, tokenizer, 300, 556)
    published = json.loads((args.golden / "methods.json").read_text())["methods"]
    dense = [model.load_block(layer) for layer in range(model.num_layers)]
    checks = [check_tensors(model, dense, SafetensorsFile(args.golden / "golden.safetensors"))]
    expected = json.loads((args.golden / "perplexity.json").read_text())
    value, count = perplexity(model, dense, evaluation)
    checks.append({"what": "dense", "perplexity": value, "golden": expected["perplexity"],
                   "ok": abs(value - expected["perplexity"]) < 1e-5
                   and count == expected["predicted_tokens"]})
    for method in args.methods.split(","):
        name = next(key for key in published
                    if key == method or key.startswith(f"{method}, target W X',"))
        for ratio in args.keep_ratio.split(","):
            blocks, stored = compress(model, calibration, method, float(ratio))
            value, _ = perplexity(model, blocks, evaluation)
            want = published[name][ratio]
            checks.append({"what": f"{method} {ratio}", "perplexity": round(value, 5),
                           "golden": want["perplexity"], "stored_numbers": stored,
                           "ok": abs(value - want["perplexity"]) < 1e-4 * max(1, value / 10)
                           and stored == want["stored_numbers"]})
            print(checks[-1], file=sys.stderr, flush=True)
    return {"ok": all(check["ok"] for check in checks), "checks": checks}


def check_tensors(model, blocks, golden):
    """Logits, Grams and whitened singular values of the four golden documents."""
    worst = {"logits": 0.0, "gram": 0.0, "whitened_sv": 0.0}
    documents = [golden.get(f"docs.{i}.input_ids").astype(int) for i in range(4)]
    x = [model.embed(ids) for ids in documents]
    for layer, block in enumerate(blocks):
        stats = Statistics(model, block, x)
        x = stats.outputs
        for name in golden.header:
            if name.startswith(f"gram.layers.{layer}."):
                want = golden.get(name)
                difference = np.linalg.norm(stats.gram[name.split(".", 3)[3]] - want)
                worst["gram"] = max(worst["gram"], difference / np.linalg.norm(want))
            if name.startswith(f"whitened_sv.layers.{layer}."):
                want, module = golden.get(name), name.split(".", 3)[3]
                values, _ = spectrum(block[module], stats.gram[LINEARS[module]])
                worst["whitened_sv"] = max(worst["whitened_sv"],
                                           np.abs(np.sqrt(values) - want).max() / want[0])
    for i, activations in enumerate(x):
        difference = np.abs(model.logits(activations)[:32] - golden.get(f"docs.{i}.logits"))
        worst["logits"] = max(worst["logits"], difference.max())
    # Eigenvalues of a Gram carry singular values to 1e-8 of the largest; golden logits are fp32.
    ok = worst["gram"] < 1e-12 and worst["whitened_sv"] < 1e-7 and worst["logits"] < 1e-5
    return {"what": "golden tensors", **{key: float(value) for key, value in worst.items()},
            "ok": bool(ok)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    golden = commands.add_parser("golden")
    golden.add_argument("--golden", type=pathlib.Path, required=True)
    golden.add_argument("--stories", type=pathlib.Path, required=True)
    golden.add_argument("--keep_ratio", default="0.9,0.8")
    golden.add_argument("--methods", default=",".join(METHODS))
    check = commands.add_parser("check-artifact")
    check.add_argument("--artifact", required=True)
    check.add_argument("--rows", action="store_true", help="print every matrix")
    ppl = commands.add_parser("perplexity")
    for command in (check, ppl):
        command.add_argument("--ids", type=pathlib.Path, required=True)
    for command, run in ((golden, golden_command), (check, check_command),
                         (ppl, perplexity_command)):
        command.add_argument("--model", required=True)
        command.set_defaults(run=run)
    args = parser.parse_args()
    result = args.run(args)
    print(json.dumps(result, indent=2))
    finite = all(math.isfinite(v) for v in result.values() if isinstance(v, float))
    return 0 if result.get("ok", finite) else 1


if __name__ == "__main__":
    sys.exit(main())
