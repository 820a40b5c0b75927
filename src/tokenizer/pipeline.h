// A tokenizer's parts, in the order in which they work on a text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "tokenizer/added.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decode.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/steps.h"

namespace svdllm {

struct WordTokenizer {
  std::vector<PreTokenizerStep> pre_tokenizer;
  BpeModel model;
  std::optional<std::vector<DecoderStep>> decoder;  // without one, tokens are joined by spaces
};

// What is known about an id. Ids that no token has are written as nothing.
struct TokenInfo {
  std::string text;
  bool exists = false;
  bool special = false;  // left out where special tokens are left out
  bool apart = false;    // a LlamaTokenizer puts spaces around it
};

// Plain data: built once by a loader, immutable from then on.
struct TokenizerPipeline {
  // Set for transformers' non-legacy LlamaTokenizer. U+2581 then counts as a space. Where a text's
  // first token is only the space that was put in front of it, and a special token follows, that
  // token goes.
  bool llama_rewrite = false;
  bool llama_prefix = false;  // the space is put in front
  int32_t llama_space_id = -1;
  std::vector<int32_t> special_ids;
  bool llama_legacy = false;  // special tokens are written between others in the legacy way
  bool llama_strip = false;   // a decoded text loses the space in front

  AddedTokenFinder added;  // looked for in the text as it is
  std::vector<NormalizerStep> normalizer;
  AddedTokenFinder normalized_added;  // looked for in the normalized text
  std::variant<WordTokenizer, SentencePieceModel> model;
  std::vector<int32_t> prefix, suffix;  // the special tokens around a text

  std::vector<TokenInfo> tokens;  // by id
  std::optional<int32_t> bos_id, eos_id;

  // A file with ids above this is taken for malformed, and so is one with an id that lies further
  // than kMaxGap behind as many ids as it has tokens: there is a row in memory for every id.
  static constexpr int32_t kMaxId = (1 << 22) - 1;
  static constexpr int64_t kMaxGap = 1 << 16;
  static bool IsPossible(int64_t id, size_t tokens) {
    return id >= 0 && id <= kMaxId && id <= static_cast<int64_t>(tokens) + kMaxGap;
  }
  // Sets tokens[id], which may be the next token or a later one. id is in [0, kMaxId].
  void SetToken(int32_t id, TokenInfo info);

  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special_tokens) const;
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const;
  std::optional<int32_t> IdOf(std::string_view token) const;
};

}  // namespace svdllm
