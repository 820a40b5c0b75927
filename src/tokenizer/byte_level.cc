#include "tokenizer/byte_level.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace svdllm {
namespace {

using nlohmann::json;

constexpr char kLlama3Words[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3})"
    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2Words[] = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N})"
                               R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr ByteLevelKind kKinds[] = {
    {.name = "gpt-2"},
    {.name = "smollm", .individual_digits = true},
    {.name = "qwen2", .words = kQwen2Words, .nfc = true},
    {.name = "llama-bpe", .words = kLlama3Words, .ignore_merges = true},
};

}  // namespace

const ByteLevelKind* FindByteLevelKind(std::string_view name) {
  for (const ByteLevelKind& kind : kKinds) {
    if (kind.name == name) return &kind;
  }
  return nullptr;
}

std::string KnownByteLevelKinds() {
  std::string names;
  for (const ByteLevelKind& kind : kKinds) {
    names += (names.empty() ? "" : ", ") + std::string(kind.name);
  }
  return names;
}

json ByteLevelTokenizerJson(const ByteLevelKind& kind, json vocab, json merges,
                            bool add_prefix_space) {
  const json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", add_prefix_space},
                           {"trim_offsets", true},
                           {"use_regex", kind.words == nullptr}};
  json steps = json::array();
  if (kind.individual_digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  if (kind.words != nullptr) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", kind.words}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(byte_level);
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", json::array()},
          {"normalizer", kind.nfc ? json{{"type", "NFC"}} : json()},
          {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}}},
          {"post_processor", nullptr},
          {"decoder", byte_level},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", kind.ignore_merges},
            {"vocab", std::move(vocab)},
            {"merges", std::move(merges)}}}};
}

}  // namespace svdllm
