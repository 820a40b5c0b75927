// A tokenizer's parts, in the order in which they work on a text.
#pragma once

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "model/bpe.h"
#include "model/tokenizer_added.h"
#include "model/tokenizer_sentencepiece.h"
#include "model/tokenizer_steps.h"

namespace svdllm {

struct WordTokenizer {
  std::vector<PreTokenizerStep> pre_tokenizer;
  BpeModel model;
};

// Plain data: built once by a loader, immutable from then on.
struct TokenizerPipeline {
  // transformers' non-legacy LlamaTokenizer: U+2581 counts as a space, and where the text's first
  // token is only the space put in front of it and a special token follows, it goes.
  bool llama_rewrite = false;
  bool llama_prefix = false;  // that space is put there
  int32_t llama_space_id = -1;
  std::vector<int32_t> special_ids;

  AddedTokenFinder added;  // looked for in the text as it is
  std::vector<NormalizerStep> normalizer;
  AddedTokenFinder normalized_added;  // looked for in the normalized text
  std::variant<WordTokenizer, SentencePieceModel> model;
  std::vector<int32_t> prefix, suffix;  // the special tokens around a text
  int64_t vocab_size = 0;

  std::vector<int32_t> Encode(std::string_view text, bool add_special_tokens) const;
};

}  // namespace svdllm
