#!/usr/bin/env python3
"""A tiny model of each family, random and briefly trained, as transformers writes and computes it.

    make_families.py OUTPUT_DIR [NAME...]        (torch, transformers, tokenizers)

Writes OUTPUT_DIR/NAME for every row of FAMILIES (or those named): a Hugging Face directory with a
byte-level tokenizer of some 300 tokens, and expected.json: `sequences`, lists of ids longer than
any window, and `logits`, what transformers computes for them in fp32. Also
OUTPUT_DIR/calibration.txt and evaluation.txt, in the made-up language that the models were trained
on. Nothing is downloaded; the same versions of the packages write the same bytes.
"""

import argparse
import json
import pathlib
import random

import tokenizers
import torch
import transformers

LENGTHS = (40, 64)  # of the expected sequences; every window below is shorter
STEPS = 60
BASE = dict(hidden_size=64, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.08)
LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0,
                   high_freq_factor=4.0, original_max_position_embeddings=32)
OPT = dict(hidden_size=64, ffn_dim=112, num_hidden_layers=3, num_attention_heads=4,
           max_position_embeddings=128, init_std=0.08, dropout=0.0)
LONGROPE = dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75,
                short_factor=[1.0, 1.05, 1.1, 1.2, 1.3, 1.5],
                long_factor=[1.0, 1.3, 1.8, 2.5, 4.0, 6.0])

# name: (configuration class, its arguments, dtype of the weights)
FAMILIES = {
    "llama": ("LlamaConfig", {**BASE, "attention_bias": True}, "float32"),
    "llama3": ("LlamaConfig",
               {**BASE, "rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True}, "float32"),
    "mistral": ("MistralConfig", {**BASE, "head_dim": 24, "sliding_window": 13}, "float32"),
    "opt": ("OPTConfig", OPT, "float32"),
    # The 350M variant: norms behind, no final norm, embeddings narrower than the model.
    "opt350": ("OPTConfig", {**OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 40},
               "float32"),
    "qwen2": ("Qwen2Config", {**BASE, "num_hidden_layers": 4, "use_sliding_window": True,
                              "sliding_window": 16, "max_window_layers": 2}, "float32"),
    "qwen3": ("Qwen3Config", {**BASE, "head_dim": 32, "tie_word_embeddings": True}, "bfloat16"),
    "gemma2": ("Gemma2Config",
               {**BASE, "num_hidden_layers": 4, "head_dim": 20, "query_pre_attn_scalar": 24,
                "sliding_window": 16, "attn_logit_softcapping": 4.0,
                "final_logit_softcapping": 8.0}, "float32"),
    "gemma3": ("Gemma3TextConfig",
               {**BASE, "num_hidden_layers": 6, "num_key_value_heads": 1, "head_dim": 20,
                "query_pre_attn_scalar": 24, "sliding_window": 12, "sliding_window_pattern": 3,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 4.0,
                                       "rope_theta": 100000.0},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0}}},
               "float32"),
    "phi3": ("Phi3Config", {**BASE, "sliding_window": 20}, "float32"),
    "phi3_longrope": ("Phi3Config",
                      {**BASE, "original_max_position_embeddings": 48, "rope_parameters": LONGROPE},
                      "float32"),
}


def spelled_as_before(name, config):
    """Some of the files get the keys of transformers 4, which most published models have."""
    rope = config.get("rope_parameters")
    if name == "llama3":
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = config.pop("rope_parameters")
    elif name == "mistral":
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
    elif name == "gemma3":
        config.pop("rope_parameters"), config.pop("layer_types")
        config["rope_theta"] = rope["full_attention"].pop("rope_theta")
        config["rope_scaling"] = rope["full_attention"]
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        config["sliding_window_pattern"] = 3
    elif name == "phi3_longrope":
        config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        config["rope_scaling"] = {"type": rope["rope_type"], "short_factor": rope["short_factor"],
                                  "long_factor": rope["long_factor"]}
    else:
        return config
    config["torch_dtype"] = config.pop("dtype")
    return config


def text(seed, characters):
    """Sentences of made-up words in a fixed order of kinds: enough structure to learn a little."""
    words = random.Random(1)
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]

    def some(count):
        return ["".join(words.choices(syllables, k=words.randint(1, 3))) for _ in range(count)]

    nouns, verbs, marks = some(40), some(20), ["ä", "é", "ñ", "7", "42"]
    draw, sentences, length = random.Random(seed), [], 0
    while length < characters:
        subject, verb, target = draw.choice(nouns), draw.choice(verbs), draw.choice(nouns)
        tail = f" {draw.choice(marks)}" if draw.random() < 0.2 else ""
        sentence = f"The {subject} {verb}s the {target}{tail}."
        sentences.append(sentence if draw.random() < 0.9 else sentence + "\n\n")
        length += len(sentence) + 1
    return " ".join(sentences)


def make_tokenizer(sample):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator([sample], tokenizers.trainers.BpeTrainer(
        vocab_size=301, special_tokens=["<s>", "</s>", "<pad>"], show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


def train(model, ids):
    """A few steps from random weights; norms and biases start off their neutral values too."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    model.train()
    for _ in range(STEPS):
        starts = torch.randint(0, len(ids) - 64, (8,))
        batch = torch.stack([ids[s:s + 64] for s in starts.tolist()])
        loss = model(batch, labels=batch, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def make(name, directory, tokenizer, ids):
    config_class, arguments, dtype = FAMILIES[name]
    torch.manual_seed(11)
    config = getattr(transformers, config_class)(
        vocab_size=len(tokenizer), bos_token_id=0, eos_token_id=1, pad_token_id=2, **arguments)
    # eager: the other implementations leave soft-caps out.
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    loss = train(model, ids)
    model = model.to(getattr(torch, dtype)).eval()
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    path = directory / "tokenizer_config.json"  # by a name that older versions know, too
    path.write_text(path.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))
    path = directory / "config.json"
    written = spelled_as_before(name, json.loads(path.read_text()))
    path.write_text(json.dumps(written, indent=2) + "\n")

    # Read again, so that what is expected is what the files say.
    model = transformers.AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager").eval()
    sequences = [ids[start:start + n].tolist() for start, n in zip((0, 1000), LENGTHS)]
    with torch.no_grad():
        logits = [model(torch.tensor([s]), use_cache=False).logits[0].tolist() for s in sequences]
    (directory / "expected.json").write_text(
        json.dumps({"sequences": sequences, "logits": logits}) + "\n")
    return loss


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=pathlib.Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(FAMILIES))
    args = parser.parse_args()
    for name in args.names:
        if name not in FAMILIES:
            parser.error(f"{name}: not one of {', '.join(FAMILIES)}")
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    args.output.mkdir(parents=True, exist_ok=True)
    sample = text(2, 60000)
    (args.output / "calibration.txt").write_text(sample, encoding="utf-8")
    (args.output / "evaluation.txt").write_text(text(5, 8000), encoding="utf-8")
    tokenizer = make_tokenizer(sample)
    ids = torch.tensor(tokenizer(sample, verbose=False)["input_ids"])
    for name in args.names or FAMILIES:
        loss = make(name, args.output / name, tokenizer, ids)
        print(f"{name}: loss {loss:.3f} after {STEPS} steps", flush=True)


if __name__ == "__main__":
    main()
