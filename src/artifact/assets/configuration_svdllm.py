# SPDX-License-Identifier: Apache-2.0
"""Configuration of a checkpoint whose linear layers were compressed to a lower rank.

Loaded by transformers (trust_remote_code=True); the same file lies in every compressed checkpoint.
`low_rank_config` in config.json says which linears are compressed, and how they are stored:

    {"format_version": 1, "method": "svd_llm", "keep_ratio": 0.8, "encoding": "plain",
     "modules": {"model.layers.0.self_attn.q_proj": {"rank": 230}, ...}}

Module paths are those of the model with its head. A linear that is not listed is dense. Of one
that the dense model has fused, the parts are listed: "...self_attn.qkv_proj.k_proj". The encodings
are "plain" (two factors) and "pivoted" (some of the rows, and the coefficients of the others in
them); modeling_svdllm.py has a class for each.

A family's class, LowRankLlamaConfig and so on, is made when it is asked for: a transformers that
lacks one family still loads the others.
"""

import functools
import re

import transformers

FORMAT_VERSION = 1
ENCODINGS = ("plain", "pivoted")

# What is in front of "Config" and "Model" in the names of transformers' classes.
FAMILIES = ("Llama", "Mistral", "OPT", "Qwen2", "Qwen3", "Gemma2", "Gemma3Text", "Phi3")


def low_rank_modules(config):
    """{module path: rank}; empty for a configuration without low_rank_config."""
    spec = getattr(config, "low_rank_config", None)
    if not spec:
        return {}
    version, encoding = spec.get("format_version"), spec.get("encoding")
    if version != FORMAT_VERSION or encoding not in ENCODINGS:
        raise ValueError(
            f"low_rank_config has format_version {version!r} and encoding {encoding!r}; this code "
            f"reads format_version {FORMAT_VERSION} and the encodings {', '.join(ENCODINGS)}"
        )
    return {module: int(entry["rank"]) for module, entry in spec["modules"].items()}


def is_pivoted(config):
    spec = getattr(config, "low_rank_config", None)
    return bool(spec) and spec.get("encoding") == "pivoted"


def low_rank_tp_plan(dense_plan, config):
    """The stock plan with the rows of factored linears replaced: y = b(a(x)), a [rank, in].

    A column-parallel linear shares out b's rows; a is small and kept whole. A row-parallel one
    shares out a's columns, so only `rank` numbers a token are reduced; b is kept whole. Only what
    is shared out is named: what no row names is kept whole, in transformers and in vLLM, and not
    every version knows a style that says so.

    A linear that is dense in some layers is named there by the layer's number. A row for all layers
    would share out its factors' `low_rank_a` as well in vLLM, which compares a row with the start
    of a name. transformers' own tensor parallelism ignores rows with numbers, so that it stops at
    such a layer where the shapes do not fit.

    Pivoted linears are kept whole: their rows are in an order of their own, which mixes all shards.
    What reads or feeds a whole linear cannot be shared out either, so there is no plan at all. Nor
    is there one for linears that are fused (Phi-3), whose stock plan gathers every output again.
    """
    if not dense_plan or is_pivoted(config):
        return None
    shared_out = {"colwise": "low_rank_b", "rowwise": "low_rank_a"}
    factored = {path.removeprefix("model.") for path in low_rank_modules(config)}
    anywhere = {re.sub(r"\.\d+\.", ".*.", path) for path in factored}
    if any(dense_plan.get(module) not in shared_out for module in anywhere):
        return None
    plan = {}
    for module, style in dense_plan.items():
        if module not in anywhere:
            plan[module] = style
            continue
        plan[f"{module}.{shared_out[style]}"] = style
        layers = (module.replace("*", str(i)) for i in range(config.num_hidden_layers))
        plan.update({path: style for path in layers if path not in factored})
    return plan


def stock_class(name):
    """A class of transformers, which may be too old to have it."""
    found = getattr(transformers, name, None)
    if found is None:
        raise ImportError(f"transformers {transformers.__version__} has no {name}; newer ones have")
    return found


def named(cls, name):
    """cls under the name by which code and pickle find it in its module."""
    cls.__name__ = cls.__qualname__ = name
    return cls


@functools.lru_cache(maxsize=None)
def config_class(family):
    stock = stock_class(f"{family}Config")

    class LowRankConfig(stock):
        model_type = f"lowrank_{stock.model_type}"
        _auto_class = "AutoConfig"

        @property
        def base_model_tp_plan(self):
            return low_rank_tp_plan(getattr(stock, "base_model_tp_plan", None), self)

    return named(LowRankConfig, f"LowRank{family}Config")


def __getattr__(name):
    family = name.removeprefix("LowRank").removesuffix("Config")
    if name == f"LowRank{family}Config" and family in FAMILIES:
        return config_class(family)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
