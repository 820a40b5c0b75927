#!/usr/bin/env python3
"""The loading code that every artifact carries, against a model reconstructed by hand.

    python -m unittest tests/e2e/test_low_rank_assets.py        (torch, transformers, safetensors)
"""

import contextlib
import json
import multiprocessing
import operator
import pathlib
import pickle
import shutil
import sys
import tempfile
import unittest
from unittest import mock

import torch
import transformers
from safetensors.torch import load_file, save_file

ASSETS = pathlib.Path(__file__).resolve().parents[2] / "src" / "artifact" / "assets"
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
TAKES_DTYPE = int(transformers.__version__.split(".")[0]) >= 5


# Family as in the names of our classes: what is particular in its configuration.
SMALL = dict(vocab_size=96, hidden_size=32, intermediate_size=80, num_hidden_layers=3,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
             bos_token_id=1, eos_token_id=2, pad_token_id=0)
OPT = dict(vocab_size=96, hidden_size=32, ffn_dim=80, num_hidden_layers=3, num_attention_heads=4,
           max_position_embeddings=64)
FAMILIES = {
    "Llama": {**SMALL, "tie_word_embeddings": True},
    "Mistral": {**SMALL, "head_dim": 12, "sliding_window": 7},
    "OPT": OPT,
    "OPT 350M": {**OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 20},
    "Qwen2": SMALL,
    "Qwen3": {**SMALL, "head_dim": 10},
    "Gemma2": {**SMALL, "head_dim": 12, "sliding_window": 7, "attn_logit_softcapping": 3.0},
    "Gemma3Text": {**SMALL, "head_dim": 12, "sliding_window": 7, "num_hidden_layers": 6},
    "Phi3": SMALL,
}
FUSED = {"qkv_proj": {"q_proj": 32, "k_proj": 16, "v_proj": 16},
         "gate_up_proj": {"gate_proj": 80, "up_proj": 80}}


def tiny(family="Llama", **changes):
    torch.manual_seed(3)
    stock = family.split()[0]
    config = getattr(transformers, f"{stock}Config")(**{**FAMILIES[family], **changes})
    model = getattr(transformers, f"{stock.removesuffix('Text')}ForCausalLM")(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return model


def all_ranks(model):
    """{path: rank} of every linear in the layers; of a fused one, of its parts."""
    ranks = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and ".layers." in name:
            rank = 3 + int(name.split(".layers.")[1].split(".")[0])
            for part in FUSED.get(name.rpartition(".")[2], [""]):
                ranks[f"{name}.{part}".rstrip(".")] = rank
    return ranks


def parts_of(name, value, ranks):
    """A tensor as the modules that hold it: [(module, its rows)], more than one where fused."""
    module = name.rpartition(".")[0]
    parts = FUSED.get(module.rpartition(".")[2], {})
    if not any(f"{module}.{part}" in ranks for part in parts):
        return [(module, value)]
    return [(f"{module}.{part}", rows)
            for part, rows in zip(parts, value.split(list(parts.values())))]


def write_artifact(model, ranks, directory, encoding="plain", dtype=torch.float32):
    """Writes what the service writes, and puts the compressed matrices into `model`."""
    tensors = {}
    for name, whole in model.state_dict().items():
        kind = name.rpartition(".")[2]
        for module, value in parts_of(name, whole, ranks):
            if module in ranks and kind == "weight":
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
                tensors[f"{module}.low_rank_a.weight"] = a
                tensors[f"{module}.low_rank_b.weight"] = b
            elif module in ranks and encoding == "plain":
                tensors[f"{module}.low_rank_b.bias"] = value.clone()
            elif not (name == "lm_head.weight" and model.config.tie_word_embeddings):
                tensors[f"{module}.{kind}"] = value.clone()
    tensors = {name: value.to(dtype) if value.is_floating_point() else value
               for name, value in tensors.items()}
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = model.config.to_dict()
    config.pop("torch_dtype", None)
    prefix = "LowRank" + type(model.config).__name__.removesuffix("Config")
    config.update({
        "dtype": str(dtype).removeprefix("torch."),
        "architectures": [f"{prefix}ForCausalLM"],
        "model_type": f"lowrank_{config['model_type']}",
        "auto_map": {"AutoConfig": f"configuration_svdllm.{prefix}Config",
                     "AutoModel": f"modeling_svdllm.{prefix}Model",
                     "AutoModelForCausalLM": f"modeling_svdllm.{prefix}ForCausalLM",
                     "AutoModelForSequenceClassification":
                         f"modeling_svdllm.{prefix}ForSequenceClassification"},
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


@contextlib.contextmanager
def parameters_on_meta():
    """As vLLM builds a model (init_on_device_without_buffers): parameters move to the meta device as
    they are registered, buffers stay where the code made them."""
    register = torch.nn.Module.register_parameter

    def on_meta(module, name, parameter):
        register(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = torch.nn.Parameter(parameter.to("meta"))

    with mock.patch.object(torch.nn.Module, "register_parameter", on_meta):
        yield


@torch.no_grad()
def load_as_vllm_does(directory):
    """The base model, without from_pretrained: empty parameters in place of those on the meta
    device, then the file's tensors copied into parameters and buffers, which must all exist."""
    config = transformers.AutoConfig.from_pretrained(directory, trust_remote_code=True)
    with parameters_on_meta():
        model = transformers.AutoModel.from_config(config, trust_remote_code=True)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = torch.nn.Parameter(
                    torch.full_like(parameter, torch.nan, device="cpu"))
    targets = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, value in load_file(directory / "model.safetensors").items():
        if name != "lm_head.weight":
            targets[name.removeprefix("model.")].copy_(value)
    return model.eval()


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

    def assert_same_base(self, dense):
        base, problems = load(self.directory, transformers.AutoModel)
        self.assertLessEqual(set(problems), {"unexpected_keys"})  # an untied head's, at most
        with torch.no_grad():
            torch.testing.assert_close(base(self.ids).last_hidden_state,
                                       dense.model(self.ids).last_hidden_state,
                                       rtol=1e-4, atol=1e-5)

    def assert_same_after_saving(self, dense, loaded):
        again = self.directory.parent / "again"
        shutil.rmtree(again, ignore_errors=True)
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

    def assert_same_generation(self, dense, loaded):
        options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0,
                   "eos_token_id": None}
        prompt = self.ids[:, :5]
        mask = torch.ones_like(prompt)
        self.assertTrue(torch.equal(loaded.generate(prompt, attention_mask=mask, **options),
                                    dense.generate(prompt, attention_mask=mask, **options)))

    def check(self, ranks_of=all_ranks, family="Llama", **changes):
        dense = tiny(family, **changes)
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

    def test_every_family(self):
        for family in FAMILIES:
            with self.subTest(family):
                if not hasattr(transformers, f"{family.split()[0]}Config"):
                    continue
                dense, loaded = self.check(family=family)
                self.assertEqual(type(loaded).__name__,
                                 f"LowRank{family.split()[0]}ForCausalLM")
                self.assertIs(pickle.loads(pickle.dumps(type(loaded))), type(loaded))
                self.assert_same_generation(dense, loaded)
                self.assert_same_base(dense)
                self.assert_same_after_saving(dense, loaded)

    def test_parts_of_a_fused_linear_that_stayed_dense(self):
        def some(model):
            return {name: rank for name, rank in all_ranks(model).items()
                    if "layers.1" not in name and not name.endswith(("k_proj", "up_proj"))}

        _, loaded = self.check(some, family="Phi3")
        layers = loaded.model.layers
        self.assertIsInstance(layers[0].self_attn.qkv_proj.k_proj, torch.nn.Linear)
        self.assertIsInstance(layers[1].mlp.gate_up_proj, torch.nn.Linear)
        self.assertIsNone(loaded.config.base_model_tp_plan)

    def test_a_layer_that_holds_linears_itself_stays_on_one_device(self):
        _, loaded = self.check(family="OPT")
        self.assertIn(type(loaded.model.decoder.layers[0]).__name__, loaded.model._no_split_modules)

    def test_a_family_that_transformers_lacks_is_named(self):
        dense = tiny()
        self.write(dense, all_ranks(dense))
        path = self.directory / "config.json"
        path.write_text(path.read_text().replace("LowRankLlama", "LowRankGemma9"))
        with self.assertRaisesRegex(AttributeError, "LowRankGemma9"):
            load(self.directory)
        code = self.directory / "configuration_svdllm.py"
        code.write_text(code.read_text().replace('"Gemma2"', '"Gemma9"'))
        with self.assertRaisesRegex(ImportError, "has no Gemma9Config"):
            load(self.directory)

    def test_half_precision(self):
        dense = tiny()
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
        dense = tiny()
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
        dense = tiny()
        self.write(dense, all_ranks(dense))
        with self.assertRaises(Exception):
            transformers.AutoModelForCausalLM.from_pretrained(self.directory,
                                                              trust_remote_code=False)

    def test_built_and_filled_as_vllm_does(self):
        for family, changes in (("Llama", {"attention_bias": True}), ("Phi3", {})):
            with self.subTest(family):
                _, loaded = self.check(family=family, **changes)
                base = load_as_vllm_does(self.directory)
                with torch.no_grad():
                    hidden = base(self.ids).last_hidden_state
                    self.assertTrue(torch.equal(loaded.lm_head(hidden), loaded(self.ids).logits))

    def test_parallel_plan_names_what_is_shared_out(self):
        def some(model):
            return {name: rank for name, rank in all_ranks(model).items()
                    if name != "model.layers.1.mlp.down_proj" and not name.endswith("k_proj")}

        _, loaded = self.check(some)
        plan = loaded.config.base_model_tp_plan
        rows = {name.removeprefix("layers."): style for name, style in plan.items()}
        self.assertEqual(rows, {
            "*.self_attn.q_proj.low_rank_b": "colwise",
            "*.self_attn.k_proj": "colwise",  # dense in every layer
            "*.self_attn.v_proj.low_rank_b": "colwise",
            "*.self_attn.o_proj.low_rank_a": "rowwise",
            "*.mlp.gate_proj.low_rank_b": "colwise",
            "*.mlp.up_proj.low_rank_b": "colwise",
            "*.mlp.down_proj.low_rank_a": "rowwise",
            "1.mlp.down_proj": "rowwise",  # dense there only
        })

    def test_pickles(self):
        """torch.save keeps a whole model by pickle; so does a process that is spawned with one."""
        for family in ("Llama", "OPT", "Phi3"):
            with self.subTest(family):
                _, loaded = self.check(family=family)
                for module in loaded.modules():
                    self.assertIs(pickle.loads(pickle.dumps(type(module))), type(module))
                path = self.directory.parent / "model.pt"
                torch.save(loaded, path)
                again = torch.load(path, weights_only=False)
                with torch.no_grad():
                    self.assertTrue(torch.equal(again(self.ids).logits, loaded(self.ids).logits))

    def test_is_passed_to_a_spawned_process(self):
        _, loaded = self.check()
        generate = operator.methodcaller("generate", self.ids[:, :5], max_new_tokens=8,
                                         do_sample=False, pad_token_id=0)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            self.assertTrue(torch.equal(pool.apply(generate, (loaded,)), generate(loaded)))

    def test_only_names_of_blocks_are_found(self):
        _, loaded = self.check()
        module = sys.modules[type(loaded).__module__]
        block = type(loaded.model.layers[0].mlp)
        self.assertEqual(block.__name__, "LowRankLlamaMLP_down_gate_up")
        for name in ("LowRankLlamaMLP", "LowRankLlamaMLP_", "LlamaMLP_up", "LowRanktorch_up",
                     "LowRankNothing_up", "__path__"):
            self.assertFalse(hasattr(module, name), name)

    def test_sequence_classification(self):
        for family in FAMILIES:
            with self.subTest(family):
                stock = f"{family.split()[0]}ForSequenceClassification"
                if not hasattr(transformers, stock):
                    continue
                dense, _ = self.check(family=family)
                torch.manual_seed(5)
                loaded, problems = load(self.directory,
                                        transformers.AutoModelForSequenceClassification,
                                        pad_token_id=0)
                self.assertLessEqual(set(problems), {"missing_keys", "unexpected_keys"})
                self.assertEqual(set(problems["missing_keys"]), {"score.weight"})
                self.assertEqual(type(loaded).__name__, f"LowRank{stock}")
                dense.config.pad_token_id = 0
                expected = getattr(transformers, stock)(dense.config).eval()
                setattr(expected, expected.base_model_prefix, dense.model)
                expected.score = loaded.score
                with torch.no_grad():
                    torch.testing.assert_close(loaded(self.ids).logits, expected(self.ids).logits,
                                               rtol=1e-4, atol=1e-5)
                loaded(self.ids, labels=torch.tensor([0, 1])).loss.backward()
                again = self.directory.parent / "classifier"
                loaded.save_pretrained(again)
                reloaded, problems = load(again, transformers.AutoModelForSequenceClassification)
                self.assertEqual(problems, {})
                with torch.no_grad():
                    self.assertTrue(torch.equal(reloaded(self.ids).logits,
                                                loaded(self.ids).logits))


class PivotedAssets(LowRankAssets):
    """The same, with the other encoding."""

    encoding = "pivoted"

    def test_parallel_plan_names_what_is_shared_out(self):
        _, loaded = self.check()
        self.assertIsNone(loaded.config.base_model_tp_plan)

    def test_rows_are_put_in_order_exactly(self):
        _, loaded = self.check()
        linear = loaded.model.layers[1].mlp.up_proj
        for dtype in (torch.float32, torch.bfloat16):
            linear.to(dtype)
            for shape in ((32,), (5, 32), (2, 5, 32)):
                x = torch.randn(shape, dtype=dtype, requires_grad=True)
                pivots = linear.low_rank_a(x)
                rows = torch.cat((pivots, linear.low_rank_b(pivots)), dim=-1)
                expected = rows.index_select(-1, linear.low_rank_order)
                y = linear(x)
                self.assertTrue(torch.equal(y, expected))
                weights = torch.randn_like(y)
                self.assertTrue(torch.equal(*(torch.autograd.grad((out * weights).sum(), x)[0]
                                              for out in (y, expected))))

    def test_rows_written_in_place(self):
        """The short cut for prefill on a CPU: where it is taken, and that it changes no bit."""
        _, loaded = self.check()
        code = sys.modules[type(loaded).__module__]

        def make():
            linear = code.PivotedLinear(torch.nn.Linear(96, 160, bias=False), 41)
            linear.low_rank_order.copy_(torch.randperm(160))
            return linear

        linear, x = make(), torch.randn(2, 20, 96)
        expected = linear(x).detach()  # with gradients: by the modules' own products
        with torch.no_grad():
            for rows in (x, x.reshape(40, 96), x.transpose(0, 1).contiguous().transpose(0, 1)):
                self.assertTrue(linear._writes_in_place(rows))
                self.assertTrue(torch.equal(linear(rows).reshape(expected.shape), expected))
            traced = torch.compile(linear, backend="eager", fullgraph=True)
            self.assertTrue(torch.equal(traced(x), expected))
            self.assertFalse(linear._writes_in_place(x[:, :4]))
            self.assertFalse(linear._writes_in_place(x.bfloat16()))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                self.assertFalse(linear._writes_in_place(x))
                self.assertEqual(linear(x).dtype, torch.bfloat16)
            hooked, calls = make(), []
            hooked.low_rank_b.register_forward_hook(lambda *call: calls.append(call))
            hooked(x)
            self.assertEqual(len(calls), 1)
            adapted = make()
            adapted.low_rank_a = torch.nn.Sequential(adapted.low_rank_a)
            self.assertFalse(adapted._writes_in_place(x))
        self.assertFalse(linear._writes_in_place(x))

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
