// The files of tokenizers, each with its companions behind it in one input (FuzzDirectory), and a
// file "text" of what is encoded.
#include "base/utf8.h"
#include "tests/fuzz/targets.h"
#include "tests/support/source_dir.h"
#include "tests/support/tiny_checkpoint.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/unicode_regex.h"

namespace svdllm::testing {
namespace {

constexpr char kText[] = "Hello  wörld, it's 123\n\n \xe2\x80\x83<s>\xf0\x9f\x98\x80 ab</s>";

void Use(const Tokenizer& tokenizer, const std::string& text) {
  for (const bool special : {false, true}) {
    const auto ids = tokenizer.Encode(text, special);
    if (!ids.ok()) return CheckRefusal(ids.status());  // at a limit of its regular expression
    for (const int32_t id : *ids) {
      FUZZ_CHECK(id >= 0 && id < tokenizer.vocab_size(), std::to_string(id));
    }
    FUZZ_CHECK(IsValidUtf8(tokenizer.Decode(*ids, special)), "decoded");
  }
  const std::vector<int32_t> others = {-1, 0, 1, static_cast<int32_t>(tokenizer.vocab_size())};
  FUZZ_CHECK(IsValidUtf8(tokenizer.Decode(others, false)), "decoded");
  (void)tokenizer.IdOf("</s>");
  (void)tokenizer.bos_id();
  (void)tokenizer.eos_id();
}

void Load(std::string_view bytes, const char* first_name) {
  static FuzzDirectory directory;
  const std::string& dir = directory.Fill(bytes, first_name);
  const auto tokenizer = Tokenizer::Load(dir);
  if (!tokenizer.ok()) return CheckRefusal(tokenizer.status());
  Use(*tokenizer, FileExists(dir + "/text") ? ReadOrDie(dir + "/text") : kText);
}

std::string Data(const std::string& name) {
  return ReadOrDie(SourceDir() + "/tests/unit/tokenizer/data/" + name);
}

const std::vector<std::string>& JsonWords() {
  static const std::vector<std::string> words = {"{",
                                                 "}",
                                                 "[",
                                                 "]",
                                                 "\"",
                                                 ",",
                                                 ":",
                                                 "null",
                                                 "true",
                                                 "false",
                                                 "-1",
                                                 "0",
                                                 "1e99",
                                                 "2147483648",
                                                 "\"type\"",
                                                 "\"Sequence\"",
                                                 "\"ByteLevel\"",
                                                 "\"Split\"",
                                                 "\"Regex\"",
                                                 "\"String\"",
                                                 "\"Metaspace\"",
                                                 "\"Replace\"",
                                                 "\"Prepend\"",
                                                 "\"NFKC\"",
                                                 "\"BPE\"",
                                                 "\"TemplateProcessing\"",
                                                 "\"byte_fallback\"",
                                                 "\"ignore_merges\"",
                                                 "\"fuse_unk\"",
                                                 "\"unk_token\"",
                                                 "\"added_tokens\"",
                                                 "\"special\"",
                                                 "\"lstrip\"",
                                                 "\"normalized\"",
                                                 "\"content\"",
                                                 "\"merges\"",
                                                 "\"vocab\"",
                                                 "<s>",
                                                 "</s>",
                                                 "<unk>",
                                                 "\n=== tokenizer_config.json\n",
                                                 "\n=== special_tokens_map.json\n",
                                                 "\n=== added_tokens.json\n",
                                                 "\n=== text\n",
                                                 "\"tokenizer_class\"",
                                                 "\"LlamaTokenizer\"",
                                                 "\"Qwen2Tokenizer\"",
                                                 "\"add_bos_token\": true",
                                                 "\"added_tokens_decoder\"",
                                                 "\\ud800",
                                                 "\xff",
                                                 "\xc4\xa0",
                                                 "\xe2\x96\x81"};
  return words;
}

constexpr char kConfig[] =
    "\n=== tokenizer_config.json\n"
    R"({"tokenizer_class": "LlamaTokenizerFast", "add_bos_token": true, "legacy": false,)"
    R"( "bos_token": {"content": "<s>", "lstrip": true}, "eos_token": "</s>",)"
    R"( "added_tokens_decoder": {"3": {"content": "<x>", "special": true, "rstrip": true}}})"
    "\n=== special_tokens_map.json\n"
    R"({"unk_token": "<unk>", "additional_special_tokens": ["<y>"]})"
    "\n=== added_tokens.json\n"
    R"({"<z>": 7})";

void RunTokenizerJson(std::string_view bytes) { Load(bytes, "tokenizer.json"); }
void RunVocabMerges(std::string_view bytes) { Load(bytes, "vocab.json"); }
void RunTokenizerModel(std::string_view bytes) { Load(bytes, "tokenizer.model"); }

// The expression in the first line, on the rest.
void RunRegex(std::string_view bytes) {
  const size_t line = std::min(bytes.find('\n'), bytes.size());
  const auto regex = Regex::Compile(bytes.substr(0, line));
  if (!regex.ok()) return CheckRefusal(regex.status());
  const std::string text = ToValidUtf8(bytes.substr(std::min(line + 1, bytes.size())));
  std::vector<Match> matches;
  if (const absl::Status found = regex->FindAll(text, &matches); !found.ok()) {
    return CheckRefusal(found);
  }
  size_t end = 0;
  for (const Match& match : matches) {
    FUZZ_CHECK(match.begin >= end && match.begin < match.end && match.end <= text.size(),
               std::to_string(match.begin) + " to " + std::to_string(match.end));
    FUZZ_CHECK(IsValidUtf8(std::string_view(text).substr(match.begin, match.end - match.begin)),
               "a match that cuts a character");
    end = match.end;
  }
}

}  // namespace

FuzzTarget TokenizerJsonTarget() {
  const TempDir dir;
  WriteTinyCheckpoint(dir.path());
  return {"tokenizer_json",
          RunTokenizerJson,
          {Data("byte_level.json"), Data("metaspace.json"), Data("metaspace.json") + kConfig,
           R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}})",
           ReadOrDie(dir.File("tokenizer.json"))},
          JsonWords(),
          size_t{16} << 10};
}

FuzzTarget VocabMergesTarget() {
  const std::string sound =
      "{\"a\": 0, \"b\": 1, \"ab\": 2, \"\xc4\xa0\": 3, \"<|endoftext|>\": 4}"
      "\n=== merges.txt\n#version: 0.2\na b\n";
  return {"vocab_merges",
          RunVocabMerges,
          {sound, sound + kConfig,
           sound + "\n=== tokenizer_config.json\n{\"tokenizer_class\": \"Qwen2Tokenizer\"}"},
          JsonWords()};
}

FuzzTarget RanksTarget() {
  return {"ranks",
          RunTokenizerModel,
          {Data("ranks.model"), "YQ== 0\nYg== 1\nYWI= 2\n", std::string("YQ== 0\n") + kConfig},
          {"YQ== ", "=", " ", "\n", "-1", "4294967296", "0", "\r\n", "\n=== text\n", "\xff"}};
}

FuzzTarget SentencePieceTarget() {
  return {"sentencepiece",
          RunTokenizerModel,
          {Data("sentencepiece.model"), Data("unigram.model"), Data("unigram_bytes.model"),
           Data("unigram_no_prefix.model"), Data("phrases.model"),
           Data("unigram_no_prefix.model") + kConfig},
          {"\xe2\x96\x81", "<0x0A>", "<unk>", "<s>", "\x0a", "\x12", "\x18\x06", "\x1a",
           std::string(4, '\xff'), std::string(4, '\0'), "\n=== text\n",
           "\n=== tokenizer_config.json\n{\"legacy\": false}"},
          size_t{8} << 10,
          kProtobufFloor};
}

FuzzTarget RegexTarget() {
  return {
      "regex",
      RunRegex,
      {"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
       " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\nIt's  12345 wörld\r\n x",
       "\\s+$|^\\s+\n  a  ", "[[:alpha:]&&[^a]]+\nbca", "(?<=a)b|\\x{1F600}\nab\xf0\x9f\x98\x80",
       "(a+)+$\naaaaaaaaaaaaaaaaaaaaaaaaaaaab", "\\p{Han}|\\h\\d\\w\\R\n\xe6\xbc\xa2"},
      {"(?i:",   "(?!",   "(?<=",      "(?>", "\\p{", "\\p{L}", "\\P{N}", "\\s",         "\\S",
       "\\x{",   "{1,3}", "{0,65535}", "*+",  "+?",   "[^",     "&&",     "[[:space:]]", "\\k<a>",
       "\\g<0>", "(?<a>", "\\G",       "\\K", "\\z",  "\\b",    "|",      "\xff",        "\n"},
      512};
}

}  // namespace svdllm::testing
