#!/usr/bin/env python3
"""Makes tests/unit/tokenizer/data: small tokenizers, and the ids that the reference gives for them.

    tokenizer_cases.py OUTPUT_DIR

Writes tokenizer.json and tokenizer.model files, trained on a few lines of our own, and cases.json. A
case names a base file, a JSON merge patch for it, perhaps a tokenizer_config.json, and gives the ids
of each text; what those ids, and random ones, are decoded to; and where a text is decoded to
something else without special tokens, that too. Without a configuration the reference is the
tokenizers package (tiktoken for ranks); with one it is transformers. The base "vocab.json" is
byte_level.json's model, as vocab.json and merges.txt.
Needs: pip install tokenizers "transformers<5" sentencepiece protobuf tiktoken
"""

import base64
import io
import json
import os
import random
import sys
import tempfile

import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (GemmaTokenizerFast, GPT2TokenizerFast, LlamaTokenizer, LlamaTokenizerFast,
                          PreTrainedTokenizerFast, Qwen2TokenizerFast)

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from tokenizers_reference import load, load_transformers  # noqa: E402

LINES = [
    "The little engine pulls the long train over the hill, and the hill does not mind.",
    "We'll weigh the wheels; they're worn, it's 1998 or 2024, who's to say?",
    "A matrix is a list of lists, and the rank of the matrix is what is left of it.",
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.",
    "def rank(matrix):\n    return len(matrix)\n\n",
    "Le cœur déçu mais l'âme plutôt naïve, Louÿs rêva de crapaüter en canoë.",
]
TEXTS = [
    "",
    " ",
    "The hill",
    " The hill  and   the train ",
    "the engine's wheels, they'RE worn; WE'LL see: it's 1998, 20245!",
    "line one\r\nline two\n\n\n  indented\t\ttabs \n",
    "naïve cœur e\u0301te\u0301 \u212b \u1e9b\u0323 각\u1100\u1161\u11a8 \ufb01ne ½ Ⅷ",
    "日本語 and 漢字、かな。 \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea",
    "\u2581under\u2581 \u2581\u2581 lines",
    "<s>the<s> hill</s> </s><unk> <sep>x <sep> <mask>, the<mask>mask<tool>tool <tool> ",
    "a  <mask>  <sep>  <pad>\n<tool>\u00a0b",
    "tabs\t\u000b\u0085\u2028\u3000\u180e\u200bend \u1e031\u0967\u19da\U00031350\U0001cd00\u0897",
    "NUL\u0000and\u007f\u0080\ufffd\uffff\U0010ffff",
    "the" * 40 + " " * 30 + "?!" * 20,
]


def special(content, **flags):
    token = dict(content=content, single_word=False, lstrip=False, rstrip=False, normalized=False,
                 special=True)
    token.update(flags)
    return token


def added(*tokens):
    return [dict(id=i, **t) for i, t in tokens]


def train_byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(vocab_size=330, show_progress=False, special_tokens=["<s>", "</s>"],
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    return json.loads(tokenizer.to_str())


def ranks_from(tokenizer):
    """A rank file of the same tokens."""
    stand_ins, next_one = {}, 0x100
    for byte in range(256):
        printable = 0x21 <= byte <= 0x7e or 0xa1 <= byte != 0xad
        stand_ins[chr(byte if printable else next_one)] = byte
        next_one += not printable
    tokens = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    tokens = [bytes(stand_ins[c] for c in token) for token, _ in tokens if token not in ("<s>", "</s>")]
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


def train_sentencepiece(rules=None, **options):
    """rules: pairs of hexadecimal code points, for a normalizer of few bytes."""
    model = io.BytesIO()
    if rules:
        with tempfile.NamedTemporaryFile("w", suffix=".tsv") as f:
            f.write("".join(f"{source}\t{target}\n" for source, target in rules))
            f.flush()
            return train_sentencepiece(normalization_rule_tsv=f.name, **options)
    settings = dict(model_type="bpe", vocab_size=420, byte_fallback=True, character_coverage=1.0,
                    normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2)
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(LINES), model_writer=model,
                                             **{**settings, **options})
    return model.getvalue()


def metaspace_from(model):
    """The same model as transformers converts it."""
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "tokenizer.model"), "wb") as f:
            f.write(model)
        fast = LlamaTokenizerFast.from_pretrained(directory, legacy=True, from_slow=True)
        return json.loads(fast.backend_tokenizer.to_str())


def merge_patch(target, patch):
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = merge_patch(target.get(key), value)
    return target


def split(pattern, behavior, invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: pattern}, "behavior": behavior, "invert": invert}


def byte_level(use_regex=False, add_prefix_space=False):
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True,
            "use_regex": use_regex}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+")
TOKENS = added((0, special("<s>")), (1, special("</s>")), (330, special("<mask>", lstrip=True)),
               (331, special("<sep>", rstrip=True)), (332, special("<pad>", lstrip=True, rstrip=True)),
               (333, special("<tool>", single_word=True, special=False)))
NORMALIZED = added((0, special("<s>")), (330, special("\u212bngstr", normalized=True, special=False)),
                   (331, special("hill", normalized=True, special=False)),
                   (332, special("e\u0301te\u0301", normalized=True, lstrip=True, special=False)))


def byte_level_files(llama):
    """vocab.json with merges.txt, and ranks."""
    v = "vocab.json"
    named = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>"}
    yield "opt", v, {}, {**named, "tokenizer_class": "GPT2TokenizerFast", "add_bos_token": True,
                         "pad_token": special("<pad>", normalized=True, __type="AddedToken"), "add_prefix_space": False}
    yield "gpt2_files", v, {}, {"tokenizer_class": "GPT2TokenizerFast", "add_prefix_space": True}
    yield "qwen2_files", v, {}, {
        "tokenizer_class": "Qwen2TokenizerFast", "bos_token": None, "eos_token": "</s>",
        "pad_token": "<pad>", "additional_special_tokens": ["<sep>"], "added_tokens_decoder": {
            "1": special("</s>"), "330": special("<pad>"), "331": special("<sep>")}}
    yield "ranks", "ranks.model", {}, None


def families(m):
    """tokenizer.json as Gemma and Phi-3 have it."""
    replace = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
    yield "gemma", m, {
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": split(" ", "MergedWithPrevious", kind="String"),
        "decoder": {"type": "Sequence", "decoders": [replace, {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "added_tokens": added((0, special("<unk>")), (1, special("<s>")), (2, special("</s>")),
                              (420, special("<mask>", special=False)),
                              (421, special("\n\n", special=False)),
                              (422, special("\u2581\u2581", special=False)))}, {
        "tokenizer_class": "GemmaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "unk_token": "<unk>", "pad_token": "<pad>", "add_bos_token": True}
    yield "phi3", m, {"added_tokens": added(
        (0, special("<unk>")), (1, special("<s>")), (2, special("</s>", special=False, rstrip=True)),
        (420, special("<pad>")), (421, special("<tool>", rstrip=True)),
        (422, special("<mask>", rstrip=True)))}, {
        "tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "<pad>",
        "unk_token": "<unk>", "pad_token": "<pad>", "add_bos_token": False, "legacy": False}


def decoder_cases(b, m):
    space = {"type": "Metaspace", "replacement": "\u2581", "split": True}
    for scheme in ("always", "first", "never"):
        yield f"decode_metaspace_{scheme}", m, {"decoder": {**space, "prepend_scheme": scheme}}, None
    yield "decode_nothing", m, {"decoder": None}, None
    yield "decode_bytes_only", m, {"decoder": {"type": "ByteFallback"}}, None
    yield "decode_strip", m, {"decoder": {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "e"}, "content": "_"},
        {"type": "Strip", "content": "\u2581", "start": 1, "stop": 0}, {"type": "Fuse"},
        {"type": "Strip", "content": "_", "start": 3, "stop": 0}]}}, None
    yield "decode_byte_level", b, {"pre_tokenizer": byte_level(True), "added_tokens": added(
        (0, special("<s>")), (330, special("h\u00e9 \u2581", special=False)),
        (331, special("\u0120x", special=False)))}, None


def cases():
    b, m, s = "byte_level.json", "metaspace.json", "sentencepiece.model"
    yield "gpt2", b, {"pre_tokenizer": byte_level(True)}, None
    yield "gpt2_prefix_space", b, {"pre_tokenizer": byte_level(True, True), "added_tokens": TOKENS}, None
    yield "digits_individual", b, {"pre_tokenizer": sequence(
        {"type": "Digits", "individual_digits": True}, byte_level(True))}, None
    yield "digits_contiguous", b, {"pre_tokenizer": sequence(
        {"type": "Digits", "individual_digits": False}, byte_level(False))}, None
    yield "llama3", b, {"pre_tokenizer": sequence(split(LLAMA3, "Isolated"), byte_level()),
                        "model": {"ignore_merges": True}, "added_tokens": TOKENS}, None
    yield "qwen", b, {"normalizer": {"type": "NFC"},
                      "pre_tokenizer": sequence(split(LLAMA3.replace("{1,3}", ""), "Isolated"),
                                                byte_level())}, None
    yield "cased", b, {"pre_tokenizer": sequence(split(CASED, "Isolated"), byte_level())}, None
    for form in ("NFD", "NFKC", "NFKD"):
        yield form, b, {"normalizer": {"type": form}, "pre_tokenizer": byte_level(True)}, None
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            yield f"{behavior}_{invert}", b, {"pre_tokenizer": sequence(
                split(r"[\s,;']|\d", behavior, invert), byte_level())}, None
    yield "literal", b, {"pre_tokenizer": sequence(split("the", "MergedWithNext", kind="String"),
                                                   byte_level())}, None
    yield "words", b, {"pre_tokenizer": sequence(split(r"\w+|[^\w\s]+", "Removed", True),
                                                 byte_level())}, None
    yield "lines", b, {"pre_tokenizer": sequence(split(r"^.*$", "Isolated"), byte_level())}, None
    yield "punctuation", b, {"pre_tokenizer": sequence(
        {"type": "Punctuation", "behavior": "Contiguous"}, {"type": "WhitespaceSplit"},
        byte_level())}, None
    yield "normalized_tokens", b, {"normalizer": {"type": "NFC"}, "added_tokens": NORMALIZED,
                                   "pre_tokenizer": byte_level(True)}, None
    yield "replace_strip", b, {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Strip", "strip_left": True, "strip_right": False},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"},
        {"type": "Replace", "pattern": {"String": "the"}, "content": "THE"},
        {"type": "Prepend", "prepend": "_"}]}, "pre_tokenizer": byte_level(True),
        "added_tokens": TOKENS}, None
    template = {"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "</s>", "type_id": 0}}], "pair": [
        {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0, 7], "tokens": ["<s>", "x"]},
                           "</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}}
    yield "template", b, {"pre_tokenizer": byte_level(True), "post_processor": {
        "type": "Sequence", "processors": [byte_level(), template]}}, None
    yield "roberta", b, {"pre_tokenizer": byte_level(True), "post_processor": {
        "type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0], "trim_offsets": True,
        "add_prefix_space": False}}, None
    yield "unknown_vanishes", b, {"pre_tokenizer": {"type": "WhitespaceSplit"}}, None
    yield "llama2", m, {}, None
    for scheme in ("always", "first", "never"):
        for cut in (False, True):
            yield f"metaspace_{scheme}_{cut}", m, {"normalizer": None, "pre_tokenizer": {
                "type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme,
                "split": cut}}, None
    yield "unknown_fused", m, {"model": {"byte_fallback": False}}, None
    yield "unknown_single", m, {"model": {"byte_fallback": False, "fuse_unk": False}}, None
    pad = {"420": special("<pad>", lstrip=True), "421": special("<sep>", rstrip=True),
           "422": special("<mask>", special=False)}
    yield "config_adds_tokens", b, {"pre_tokenizer": byte_level(True)}, {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "pad_token": "<pad>",
        "added_tokens_decoder": {"0": special("<s>", rstrip=True), "330": special("<sep>")}}
    yield "config_llama_json", m, {}, {
        "tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
        "unk_token": "<unk>", "add_bos_token": False, "add_eos_token": True}
    llama = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
             "unk_token": "<unk>"}
    yield "sentencepiece", s, {}, {}
    yield "sentencepiece_tokens", s, {}, {**llama, "legacy": True, "added_tokens_decoder": pad}
    yield "sentencepiece_eos", s, {}, {**llama, "legacy": True, "add_bos_token": False,
                                       "add_eos_token": True}
    yield "sentencepiece_new", s, {}, {**llama, "legacy": False, "added_tokens_decoder": pad}
    yield "sentencepiece_new_no_prefix", s, {}, {**llama, "legacy": False, "add_prefix_space": False}
    # Pieces that span words, and a model that drops spaces: encoded as a whole.
    for name in ("phrases", "unigram", "unigram_bytes", "unigram_no_prefix"):
        for legacy in (True, False):
            yield f"{name}_legacy_{legacy}", f"{name}.model", {}, {**llama, "legacy": legacy}
    yield "sentencepiece_plain_tokens", s, {}, {
        **llama, "legacy": False, "additional_special_tokens": ["<sep>"], "added_tokens_decoder": {
            "420": special("<tool>", special=False, rstrip=True), "421": special("<sep>")}}
    yield from byte_level_files(llama)
    yield from families(m)
    yield from decoder_cases(b, m)
    yield "sentencepiece_pad", s, {}, {**llama, "pad_token": "<pad>",
                                       "additional_special_tokens": ["<tool>", "the"]}


def reference(base, content, config):
    with tempfile.TemporaryDirectory() as directory:
        def write(name, data):
            with open(os.path.join(directory, name), "wb") as f:
                f.write(data)

        if base == "vocab.json":
            model = json.loads(content)["model"]
            write("vocab.json", json.dumps(model["vocab"]).encode())
            merges = (m if isinstance(m, str) else " ".join(m) for m in model["merges"])
            write("merges.txt", ("#version: 0.2\n" + "\n".join(merges) + "\n").encode())
        else:
            write("tokenizer.json" if base.endswith(".json") else "tokenizer.model", content)
        if config:
            write("tokenizer_config.json", json.dumps(config).encode())
        if config is None:
            return load(directory)
        kind = config.get("tokenizer_class", "GPT2TokenizerFast" if base == "vocab.json" else "LlamaTokenizer")
        kinds = {k.__name__: k for k in (GemmaTokenizerFast, GPT2TokenizerFast, LlamaTokenizer,
                                         LlamaTokenizerFast, PreTrainedTokenizerFast, Qwen2TokenizerFast)}
        return load_transformers(kinds[kind].from_pretrained(directory))


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    model = train_sentencepiece()
    bases = {"sentencepiece.model": model,
             "phrases.model": train_sentencepiece(split_by_whitespace=False),
             "unigram.model": train_sentencepiece(model_type="unigram", vocab_size=350,
                                                  remove_extra_whitespaces=True),
             "unigram_bytes.model": train_sentencepiece(
                 model_type="unigram", vocab_size=355, rules=[
                     ("FB01", "66 69"), ("BD", "31 2044 32"), ("65 301", "E9"), ("9", "20")],
                 remove_extra_whitespaces=False, user_defined_symbols=["<tool>", "the hill"]),
             "unigram_no_prefix.model": train_sentencepiece(
                 model_type="unigram", vocab_size=90, byte_fallback=False, add_dummy_prefix=False,
                 control_symbols=["<sep>"])}
    byte_level = train_byte_level()
    bases["ranks.model"] = ranks_from(byte_level)
    for name, value in (("byte_level.json", byte_level), ("metaspace.json", metaspace_from(model))):
        bases[name] = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    for name, content in bases.items():
        with open(os.path.join(out, name), "wb") as f:
            f.write(content)
    lines = []
    for name, base, patch, config in cases():
        content = bases["byte_level.json" if base == "vocab.json" else base]
        if base.endswith(".json"):
            content = json.dumps(merge_patch(json.loads(content), patch)).encode()
        tokenizer = reference(base, content, config)
        case = {"name": name, "base": base, "patch": patch}
        if config:
            case["config"] = config
        case["ids"] = [list(tokenizer.encode(text)) for text in TEXTS]
        rng = random.Random(name)
        highest = max(max(ids, default=0) for ids in case["ids"])
        case["random"] = [[rng.randrange(highest + 1) for _ in range(24)] for _ in range(3)]
        case["decoded"], case["without_special"] = [], {}
        for i, ids in enumerate(case["ids"] + case["random"]):
            case["decoded"].append(tokenizer.decode(ids, False))
            without = tokenizer.decode(ids, True)
            if without != case["decoded"][-1]:
                case["without_special"][str(i)] = without
        lines.append(json.dumps(case, separators=(",", ":")))
    with open(os.path.join(out, "cases.json"), "w") as f:
        f.write('{"texts":%s,\n"cases":[\n%s\n]}\n' % (json.dumps(TEXTS), ",\n".join(lines)))


if __name__ == "__main__":
    main()
