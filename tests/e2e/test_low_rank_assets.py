#!/usr/bin/env python3
"""The loading code that every artifact carries, against a model reconstructed by hand.

    python -m unittest tests/e2e/test_low_rank_assets.py        (torch, transformers, safetensors)
"""

import json
import pathlib
import shutil
import tempfile
import unittest

import torch
import transformers
from safetensors.torch import load_file, save_file

ASSETS = pathlib.Path(__file__).resolve().parents[2] / "src" / "pipeline" / "assets"
TAKES_DTYPE = int(transformers.__version__.split(".")[0]) >= 5


def tiny_llama(**changes):
    torch.manual_seed(3)
    config = transformers.LlamaConfig(**{
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        "tie_word_embeddings": True, **changes})
    model = transformers.LlamaForCausalLM(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


LINEARS = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
           "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]


def all_ranks(model):
    return {f"model.layers.{i}.{name}": 3 + i
            for i in range(model.config.num_hidden_layers) for name in LINEARS}


def write_artifact(model, ranks, directory, encoding="plain", dtype=torch.float32):
    """Writes what the service writes, and puts the compressed matrices into `model`."""
    tensors = {}
    for name, value in model.state_dict().items():
        module = name.rpartition(".")[0]
        if module in ranks and name.endswith(".weight"):
            rank, (rows, cols) = ranks[module], value.shape
            a = torch.randn(rank, cols) * 0.1
            if encoding == "plain":
                b = torch.randn(rows, rank) * 0.1
                value.copy_(b @ a)
            else:
                b = torch.randn(rows - rank, rank) * 0.1
                order = torch.randperm(rows)
                value.copy_(torch.cat((a, b @ a))[order])
                tensors[f"{module}.low_rank_order"] = order.int()
            tensors[f"{module}.low_rank_a.weight"], tensors[f"{module}.low_rank_b.weight"] = a, b
        elif module in ranks and encoding == "plain":
            tensors[f"{module}.low_rank_b.bias"] = value.clone()
        elif not (name == "lm_head.weight" and model.config.tie_word_embeddings):
            tensors[name] = value.clone()
    tensors = {name: value.to(dtype) if value.is_floating_point() else value
               for name, value in tensors.items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    config.pop("torch_dtype", None)
    config.update({
        "dtype": str(dtype).removeprefix("torch."),
        "architectures": ["LowRankLlamaForCausalLM"],
        "model_type": "lowrank_llama",
        "auto_map": {"AutoConfig": "configuration_svdllm.LowRankLlamaConfig",
                     "AutoModel": "modeling_svdllm.LowRankLlamaModel",
                     "AutoModelForCausalLM": "modeling_svdllm.LowRankLlamaForCausalLM"},
        "low_rank_config": {"format_version": 1, "method": "svd_llm", "keep_ratio": 0.5,
                            "encoding": encoding,
                            "modules": {name: {"rank": rank} for name, rank in ranks.items()}},
    })
    (directory / "config.json").write_text(json.dumps(config))
    for name in ("configuration_svdllm.py", "modeling_svdllm.py"):
        shutil.copy(ASSETS / name, directory / name)


def load(directory, auto=transformers.AutoModelForCausalLM, **options):
    model, info = auto.from_pretrained(directory, trust_remote_code=True, output_loading_info=True,
                                       **options)
    return model.eval(), {key: value for key, value in info.items() if value}


class LowRankAssets(unittest.TestCase):
    encoding = "plain"

    def write(self, model, ranks, **options):
        write_artifact(model, ranks, self.directory, self.encoding, **options)

    def setUp(self):
        self._directory = tempfile.TemporaryDirectory()
        self.addCleanup(self._directory.cleanup)
        self.directory = pathlib.Path(self._directory.name) / "artifact"
        self.directory.mkdir()
        self.ids = torch.arange(40).reshape(2, 20) * 7 % 96

    def assert_same_logits(self, dense, loaded):
        with torch.no_grad():
            torch.testing.assert_close(loaded(self.ids).logits, dense(self.ids).logits,
                                       rtol=1e-4, atol=1e-5)

    def check(self, ranks_of=all_ranks, **changes):
        dense = tiny_llama(**changes)
        ranks = ranks_of(dense)
        self.write(dense, ranks)
        loaded, problems = load(self.directory)
        self.assertEqual(problems, {})
        self.assert_same_logits(dense, loaded)
        for name, rank in ranks.items():
            self.assertEqual(loaded.get_submodule(name).low_rank_a.out_features, rank)
        return dense, loaded

    def test_tied_head(self):
        _, loaded = self.check()
        self.assertIs(loaded.lm_head.weight, loaded.model.embed_tokens.weight)

    def test_untied_head(self):
        _, loaded = self.check(tie_word_embeddings=False)
        self.assertIsNot(loaded.lm_head.weight, loaded.model.embed_tokens.weight)

    def test_biases(self):
        self.check(attention_bias=True, mlp_bias=True)

    def test_linears_that_stayed_dense(self):
        def some(model):
            return {name: rank for name, rank in all_ranks(model).items()
                    if "layers.1" not in name and not name.endswith("k_proj")}

        _, loaded = self.check(some)
        layers = loaded.model.layers
        self.assertIsInstance(layers[0].self_attn.k_proj, torch.nn.Linear)
        self.assertIsNot(type(layers[0].self_attn), type(layers[1].self_attn))
        self.assertIs(type(layers[0].self_attn), type(layers[2].self_attn))

    def test_base_model_loads_alone(self):
        dense, _ = self.check()
        base, problems = load(self.directory, transformers.AutoModel)
        self.assertLessEqual(set(problems), {"unexpected_keys"})  # an untied head's, at most
        self.assertEqual(type(base).__name__, "LowRankLlamaModel")
        with torch.no_grad():
            torch.testing.assert_close(base(self.ids).last_hidden_state,
                                       dense.model(self.ids).last_hidden_state,
                                       rtol=1e-4, atol=1e-5)

    def test_saving_and_loading_again(self):
        dense, loaded = self.check()
        again = self.directory.parent / "again"
        loaded.save_pretrained(again)
        self.assertEqual(set(load_file(again / "model.safetensors")),
                         set(load_file(self.directory / "model.safetensors")))
        before, after = (json.loads((directory / "config.json").read_text())
                         for directory in (self.directory, again))
        for key in ("low_rank_config", "model_type", "architectures"):
            self.assertEqual(after[key], before[key], key)
        self.assertLessEqual({"AutoConfig", "AutoModelForCausalLM"}, set(after["auto_map"]))
        reloaded, problems = load(again)
        self.assertEqual(problems, {})
        self.assert_same_logits(dense, reloaded)

    def test_generates_with_cache_as_the_dense_model_does(self):
        dense, loaded = self.check()
        options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0,
                   "eos_token_id": None}
        prompt = self.ids[:, :5]
        mask = torch.ones_like(prompt)
        self.assertTrue(torch.equal(loaded.generate(prompt, attention_mask=mask, **options),
                                    dense.generate(prompt, attention_mask=mask, **options)))

    def test_half_precision(self):
        dense = tiny_llama()
        name = "dtype" if TAKES_DTYPE else "torch_dtype"
        for stored, asked, expected in ((torch.float32, torch.bfloat16, torch.bfloat16),
                                        (torch.float16, "auto", torch.float16),
                                        (torch.bfloat16, "auto", torch.bfloat16),
                                        (torch.bfloat16, torch.float32, torch.float32)):
            with self.subTest(stored=stored, asked=asked):
                self.write(dense, all_ranks(dense), dtype=stored)
                loaded, problems = load(self.directory, **{name: asked})
                self.assertEqual(problems, {})
                self.assertEqual({p.dtype for p in loaded.parameters()}, {expected})
                written = load_file(self.directory / "model.safetensors")
                for key, value in loaded.state_dict().items():
                    if key.endswith("low_rank_order"):
                        self.assertEqual(value.dtype, torch.int32)
                        self.assertTrue(torch.equal(value, written[key]), key)
                with torch.no_grad():
                    error = loaded(self.ids).logits.float() - dense(self.ids).logits
                self.assertLess(error.abs().max(), 0.05)

    def test_another_format_is_refused_by_name(self):
        dense = tiny_llama()
        self.write(dense, all_ranks(dense))
        path = self.directory / "config.json"
        for key, value, message in (("format_version", 2, "format_version 2"),
                                    ("encoding", "folded", "'folded'"),
                                    ("modules", {"model.layers.9.mlp.up_proj": {"rank": 1}},
                                     "model.layers.9.mlp.up_proj")):
            config = json.loads(path.read_text())
            config["low_rank_config"][key] = value
            changed = self.directory.parent / key
            shutil.copytree(self.directory, changed)
            (changed / "config.json").write_text(json.dumps(config))
            with self.assertRaisesRegex(ValueError, message):
                load(changed)

    def test_a_plain_loader_refuses(self):
        dense = tiny_llama()
        self.write(dense, all_ranks(dense))
        with self.assertRaises(Exception):
            transformers.AutoModelForCausalLM.from_pretrained(self.directory,
                                                              trust_remote_code=False)

    def test_parallel_plan_names_the_factors(self):
        def some(model):
            return {name: rank for name, rank in all_ranks(model).items()
                    if name != "model.layers.1.mlp.down_proj" and not name.endswith("k_proj")}

        _, loaded = self.check(some)
        plan = loaded.config.base_model_tp_plan
        if plan is None:
            self.skipTest("this transformers has no replicated style")
        rows = {name.removeprefix("layers.*."): style for name, style in plan.items()}
        self.assertEqual(rows["self_attn.k_proj"], "colwise")  # dense in every layer
        self.assertNotIn("self_attn.k_proj.low_rank_a", rows)
        self.assertNotIn("self_attn.q_proj", rows)  # factored in every layer
        self.assertEqual(rows["self_attn.q_proj.low_rank_a"], "replicate")
        self.assertEqual(rows["self_attn.q_proj.low_rank_b"], "colwise")
        self.assertEqual(rows["self_attn.o_proj.low_rank_a"], "rowwise")
        self.assertEqual(rows["self_attn.o_proj.low_rank_b"], "replicate")
        names = list(rows)  # factored in some layers only: the factors' rows come first
        self.assertLess(names.index("mlp.down_proj.low_rank_b"), names.index("mlp.down_proj"))


class PivotedAssets(LowRankAssets):
    """The same, with the other encoding."""

    encoding = "pivoted"

    def test_parallel_plan_names_the_factors(self):
        _, loaded = self.check()
        self.assertIsNone(loaded.config.base_model_tp_plan)

    def test_order_follows_a_cast(self):
        _, loaded = self.check()
        linear = loaded.half().model.layers[0].mlp.up_proj
        self.assertEqual(linear.low_rank_order.dtype, torch.int32)
        self.assertEqual(linear.low_rank_a.weight.dtype, torch.float16)

    def test_traces_without_a_break(self):
        dense, loaded = self.check(attention_bias=True)
        linear = loaded.model.layers[1].self_attn.q_proj
        traced = torch.compile(linear, backend="eager", fullgraph=True)
        x = torch.randn(2, 5, 32)
        with torch.no_grad():
            torch.testing.assert_close(traced(x), dense.model.layers[1].self_attn.q_proj(x),
                                       rtol=1e-4, atol=1e-5)


if __name__ == "__main__":
    unittest.main()
