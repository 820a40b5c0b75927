# SPDX-License-Identifier: Apache-2.0
"""Models with linears compressed to a lower rank, for transformers and what builds on it.

Loaded with trust_remote_code=True; the same file lies in every compressed checkpoint. A family's
classes, LowRankLlamaForCausalLM and so on, are made when they are asked for: the stock model with
the linears that config.low_rank_config lists swapped for LowRankLinear or PivotedLinear. Attention,
cache, positions and generation are the stock ones.
"""

import functools
import sys

import torch
import transformers
from torch import nn
from transformers import GenerationMixin

from .configuration_svdllm import (
    FAMILIES,
    config_class,
    is_pivoted,
    low_rank_modules,
    named,
    stock_class,
)


class LowRankLinear(nn.Module):
    """y = W x + bias with W = B A: low_rank_a is A [rank, in], low_rank_b is B [out, rank]."""

    def __init__(self, dense, rank):
        super().__init__()
        like = {"device": dense.weight.device, "dtype": dense.weight.dtype}
        self.low_rank_a = nn.Linear(dense.in_features, rank, bias=False, **like)
        self.low_rank_b = nn.Linear(rank, dense.out_features, bias=dense.bias is not None, **like)

    def forward(self, x):
        return self.low_rank_b(self.low_rank_a(x))


def is_bare(linear):
    """Whether calling this module is the product with its weight, and nobody would miss the call:
    an adapter, a quantiser, an offloader or a parallel layout shows in one of these."""
    return (
        type(linear) is nn.Linear
        and type(linear.weight) is nn.Parameter
        and "forward" not in vars(linear)
        and not (linear._forward_hooks or linear._forward_pre_hooks)
    )


class PivotedLinear(nn.Module):
    """y = W x + bias: low_rank_a is A [rank, in], some of W's rows; low_rank_b is
    T [out - rank, rank], the others' coefficients in them; row i of W is row low_rank_order[i] of
    [A; T A]."""

    def __init__(self, dense, rank):
        super().__init__()
        like = {"device": dense.weight.device, "dtype": dense.weight.dtype}
        out = dense.out_features
        self.low_rank_a = nn.Linear(dense.in_features, rank, bias=False, **like)
        self.low_rank_b = nn.Linear(rank, out - rank, bias=False, **like)
        # Not on the weights' device: vLLM builds a model with its parameters on the meta device and
        # its buffers on the real one, where it then copies what the file holds.
        self.register_buffer("low_rank_order", torch.arange(out, dtype=torch.int32))
        self.register_parameter("bias", dense.bias)

    def forward(self, x):
        if self._writes_in_place(x):
            rows = self._rows_in_place(x)
        else:
            pivots = self.low_rank_a(x)
            rows = torch.cat((pivots, self.low_rank_b(pivots)), dim=-1)
        # On a CPU index_select takes four times as long here, longer than many a low_rank_b.
        y = rows.gather(-1, self.low_rank_order.long().expand_as(rows))
        return y if self.bias is None else y + self.bias

    def _writes_in_place(self, x):
        """Whether _rows_in_place gains something, changes no bit, and goes unnoticed."""
        return (
            not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()
            and not torch.is_grad_enabled()
            and not torch.is_autocast_enabled("cpu")
            and type(x) is torch.Tensor
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and is_bare(self.low_rank_a)
            and is_bare(self.low_rank_b)
            and x.shape[:-1].numel() >= 32
            and min(self.low_rank_a.out_features, self.low_rank_b.out_features) >= 32
        )

    def _rows_in_place(self, x):
        """Both products written into rows of the output's length, in place of torch.cat. Ranks are
        odd, and a CPU takes up to a third longer to write rows of an odd length end to end."""
        a, b = self.low_rank_a.weight, self.low_rank_b.weight
        rank = a.shape[0]
        rows = x.new_empty(*x.shape[:-1], rank + b.shape[0])
        flat = rows.view(-1, rows.shape[-1])
        torch.mm(x.reshape(-1, x.shape[-1]), a.t(), out=flat[:, :rank])
        torch.mm(flat[:, :rank], b.t(), out=flat[:, rank:])
        return rows


# A linear that a dense checkpoint stores as one: its parts, with their shares of its outputs.
FUSED = {
    "qkv_proj": lambda config: {
        "q_proj": config.num_attention_heads,
        "k_proj": config.num_key_value_heads,
        "v_proj": config.num_key_value_heads,
    },
    "gate_up_proj": lambda config: {"gate_proj": 1, "up_proj": 1},
}


class FusedLinear(nn.Module):
    """Linears of the same input, each compressed on its own or dense; their outputs in a row."""

    def __init__(self, dense, shares):
        super().__init__()
        like = {"device": dense.weight.device, "dtype": dense.weight.dtype}
        unit = dense.out_features // sum(shares.values())
        for name, share in shares.items():
            part = nn.Linear(dense.in_features, share * unit, bias=dense.bias is not None, **like)
            self.add_module(name, part)

    def forward(self, x):
        return torch.cat([part(x) for part in self.children()], dim=-1)


@functools.lru_cache(maxsize=None)
def _variant(cls, factored):
    """A subclass of `cls` that behaves the same, one for each set of factored children.

    vLLM looks at one instance of a class to decide how to fuse the linears of all of them; blocks
    that differ in what is factored must therefore not share a class.
    """
    return type(f"LowRank{cls.__name__}_{factored}", (cls,), {"__module__": __name__})


def _variant_named(name):
    """The variant of that name, "LowRankLlamaAttention_k_o_q_v", or None.

    pickle looks for it in a process that may have made no model yet.
    """
    stock, _, factored = name.removeprefix("LowRank").partition("_")
    if not name.startswith("LowRank") or not factored:
        return None
    if stock == FusedLinear.__name__:
        return _variant(FusedLinear, factored)
    for family in FAMILIES:
        model = getattr(transformers, f"{family}Model", None)
        block = model and getattr(sys.modules[model.__module__], stock, None)
        if isinstance(block, type) and issubclass(block, nn.Module):
            return _variant(block, factored)
    return None


def swap_linears(base_model, config):
    """Replaces the listed linears of the base model (the one without the head)."""
    compressed = PivotedLinear if is_pivoted(config) else LowRankLinear
    factored = {}

    def swap(path, make):
        parent_path, _, name = path.rpartition(".")
        parent = base_model.get_submodule(parent_path)
        dense = getattr(parent, name)
        if not isinstance(dense, nn.Linear):
            raise ValueError(f"low_rank_config lists model.{path}: not a linear layer")
        setattr(parent, name, make(dense))
        factored.setdefault(parent, []).append(name)

    for listed, rank in low_rank_modules(config).items():
        path = listed.removeprefix("model.")
        whole, name = path.rpartition(".")[0], path.split(".")[-2]
        try:
            if name in FUSED and isinstance(base_model.get_submodule(whole), nn.Linear):
                swap(whole, lambda dense: FusedLinear(dense, FUSED[name](config)))
            swap(path, lambda dense: compressed(dense, rank))
        except AttributeError:
            raise ValueError(f"low_rank_config lists {listed}: the model has none") from None
    # What must stay on one device is known by the name of its class.
    unsplit = set(base_model._no_split_modules or ())
    for parent, names in factored.items():
        stock = type(parent)
        parts = "_".join(sorted(name.removesuffix("_proj") for name in names))
        parent.__class__ = _variant(stock, parts)
        if stock.__name__ in unsplit:
            unsplit.add(type(parent).__name__)
    base_model._no_split_modules = sorted(unsplit)


@functools.lru_cache(maxsize=None)
def base_class(family):
    class LowRankModel(stock_class(f"{family}Model")):
        config_class = config_class(family)
        base_model_prefix = "model"  # Gemma 3's was another one once
        _auto_class = "AutoModel"  # save_pretrained copies this file; some versions need telling

        def __init__(self, config):
            super().__init__(config)
            swap_linears(self, config)

    return named(LowRankModel, f"LowRank{family}Model")


@functools.lru_cache(maxsize=None)
def causal_class(family):
    stock = stock_class(f"{family.removesuffix('Text')}ForCausalLM")

    # The mixin by name: transformers derives a class of its own from some that only inherit it.
    class LowRankForCausalLM(stock, GenerationMixin):
        config_class = config_class(family)
        base_model_prefix = "model"
        _auto_class = "AutoModelForCausalLM"

        def __init__(self, config):
            # Past the stock constructor, which would build the dense model first.
            super(stock, self).__init__(config)
            self.model = base_class(family)(config)
            self.vocab_size = config.vocab_size
            width = getattr(config, "word_embed_proj_dim", config.hidden_size)
            self.lm_head = nn.Linear(width, config.vocab_size, bias=False)
            self.post_init()

    return named(LowRankForCausalLM, f"LowRank{family}ForCausalLM")


@functools.lru_cache(maxsize=None)
def classifier_class(family):
    class LowRankForSequenceClassification(stock_class(f"{family}ForSequenceClassification")):
        config_class = config_class(family)
        base_model_prefix = "model"
        _auto_class = "AutoModelForSequenceClassification"

        def __init__(self, config):
            # Past the stock constructors, which would build the dense model first.
            transformers.PreTrainedModel.__init__(self, config)
            self.num_labels = config.num_labels
            self.model = base_class(family)(config)
            width = getattr(config, "word_embed_proj_dim", config.hidden_size)
            self.score = nn.Linear(width, config.num_labels, bias=False)
            self.post_init()

    return named(LowRankForSequenceClassification, f"LowRank{family}ForSequenceClassification")


MAKERS = {
    "ForCausalLM": causal_class,
    "ForSequenceClassification": classifier_class,
    "Model": base_class,
}


def __getattr__(name):
    for suffix, make in MAKERS.items():
        family = name.removeprefix("LowRank").removesuffix(suffix)
        if name == f"LowRank{family}{suffix}" and family in FAMILIES:
            return make(family)
    variant = _variant_named(name)
    if variant is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return variant
