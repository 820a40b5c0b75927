"""Models with linears compressed to a lower rank, for transformers and what builds on it.

Loaded with trust_remote_code=True; the same file lies in every compressed checkpoint. A family is
two short classes at the end: the stock model with the linears that config.low_rank_config lists
swapped for LowRankLinear or PivotedLinear. Attention, cache, rotary positions and generation are
the stock ones.
"""

import functools

import torch
from torch import nn
from transformers import LlamaForCausalLM, LlamaModel

from .configuration_svdllm import LowRankLlamaConfig, is_pivoted, low_rank_modules


class LowRankLinear(nn.Module):
    """y = W x + bias with W = B A: low_rank_a is A [rank, in], low_rank_b is B [out, rank]."""

    def __init__(self, dense, rank):
        super().__init__()
        like = {"device": dense.weight.device, "dtype": dense.weight.dtype}
        self.low_rank_a = nn.Linear(dense.in_features, rank, bias=False, **like)
        self.low_rank_b = nn.Linear(rank, dense.out_features, bias=dense.bias is not None, **like)

    def forward(self, x):
        return self.low_rank_b(self.low_rank_a(x))


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
        order = torch.arange(out, dtype=torch.int32, device=dense.weight.device)
        self.register_buffer("low_rank_order", order)
        self.register_parameter("bias", dense.bias)

    def forward(self, x):
        pivots = self.low_rank_a(x)
        rows = torch.cat((pivots, self.low_rank_b(pivots)), dim=-1)
        y = rows.index_select(-1, self.low_rank_order)
        return y if self.bias is None else y + self.bias


@functools.lru_cache(maxsize=None)
def _variant(cls, factored):
    """A subclass of `cls` that behaves the same, one for each set of factored children.

    vLLM looks at one instance of a class to decide how to fuse the linears of all of them; blocks
    that differ in what is factored must therefore not share a class.
    """
    return type(f"LowRank{cls.__name__}", (cls,), {"__module__": __name__, "factored": factored})


def swap_linears(base_model, config):
    """Replaces the listed linears of the base model (the one without the head)."""
    prefix = type(base_model).base_model_prefix + "."
    compressed = PivotedLinear if is_pivoted(config) else LowRankLinear
    factored = {}
    for path, rank in low_rank_modules(config).items():
        parent_path, _, name = path.removeprefix(prefix).rpartition(".")
        try:
            parent = base_model.get_submodule(parent_path)
            dense = getattr(parent, name)
        except AttributeError:
            raise ValueError(f"low_rank_config lists {path}: the model has none") from None
        if not isinstance(dense, nn.Linear):
            raise ValueError(f"low_rank_config lists {path}: not a linear layer")
        setattr(parent, name, compressed(dense, rank))
        factored.setdefault(parent, []).append(name)
    for parent, names in factored.items():
        parent.__class__ = _variant(type(parent), tuple(sorted(names)))


class LowRankLlamaModel(LlamaModel):
    config_class = LowRankLlamaConfig
    _auto_class = "AutoModel"  # save_pretrained copies this file; some versions need telling

    def __init__(self, config):
        super().__init__(config)
        swap_linears(self, config)


class LowRankLlamaForCausalLM(LlamaForCausalLM):
    config_class = LowRankLlamaConfig
    _auto_class = "AutoModelForCausalLM"

    def __init__(self, config):
        # Past LlamaForCausalLM's own constructor, which would build the dense model first.
        super(LlamaForCausalLM, self).__init__(config)
        self.model = LowRankLlamaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()
