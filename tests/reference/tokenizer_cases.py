#!/usr/bin/env python3
"""Makes tests/unit/tokenizer/data: small tokenizers, and the ids that the reference gives for them.

    tokenizer_cases.py OUTPUT_DIR

Writes tokenizer.json and tokenizer.model files, trained on a few lines of our own, and cases.json. A case names a base file, a JSON merge patch for it, perhaps a
tokenizer_config.json, and gives the ids of each text. Without a configuration the reference is the
tokenizers package; with one it is transformers.
Needs: pip install tokenizers "transformers<5" sentencepiece protobuf
"""

import io
import json
import os
import sys
import tempfile

import sentencepiece
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaTokenizer, LlamaTokenizerFast, PreTrainedTokenizerFast

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
    return json.loads(tokenizer.to_str())


def train_sentencepiece(**options):
    model = io.BytesIO()
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
    for name in ("phrases.model", "unigram.model"):
        for legacy in (True, False):
            yield f"{name[:7]}_legacy_{legacy}", name, {}, {**llama, "legacy": legacy}
    yield "sentencepiece_pad", s, {}, {**llama, "pad_token": "<pad>",
                                       "additional_special_tokens": ["<tool>", "the"]}


def encoder(base, content, config):
    if config is None:
        tokenizer = Tokenizer.from_str(content.decode())
        return lambda text: tokenizer.encode(text).ids
    with tempfile.TemporaryDirectory() as directory:
        name = "tokenizer.json" if base.endswith(".json") else "tokenizer.model"
        with open(os.path.join(directory, name), "wb") as f:
            f.write(content)
        if config:
            with open(os.path.join(directory, "tokenizer_config.json"), "w") as f:
                json.dump(config, f)
        kind = config.get("tokenizer_class", "LlamaTokenizer")
        kinds = {k.__name__: k for k in (LlamaTokenizer, LlamaTokenizerFast, PreTrainedTokenizerFast)}
        tokenizer = kinds[kind].from_pretrained(directory)
        return tokenizer.encode


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    model = train_sentencepiece()
    bases = {"sentencepiece.model": model,
             "phrases.model": train_sentencepiece(split_by_whitespace=False),
             "unigram.model": train_sentencepiece(model_type="unigram", vocab_size=350,
                                                  remove_extra_whitespaces=True)}
    for name, value in (("byte_level.json", train_byte_level()), ("metaspace.json",
                                                                metaspace_from(model))):
        bases[name] = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    for name, content in bases.items():
        with open(os.path.join(out, name), "wb") as f:
            f.write(content)
    lines = []
    for name, base, patch, config in cases():
        content = bases[base]
        if base.endswith(".json"):
            content = json.dumps(merge_patch(json.loads(content), patch)).encode()
        encode = encoder(base, content, config)
        case = {"name": name, "base": base, "patch": patch}
        if config:
            case["config"] = config
        case["ids"] = [list(encode(text)) for text in TEXTS]
        lines.append(json.dumps(case, separators=(",", ":")))
    with open(os.path.join(out, "cases.json"), "w") as f:
        f.write('{"texts":%s,\n"cases":[\n%s\n]}\n' % (json.dumps(TEXTS), ",\n".join(lines)))


if __name__ == "__main__":
    main()
