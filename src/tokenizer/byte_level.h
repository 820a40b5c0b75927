// The byte-level tokenizers whose files name only a kind, and what tokenizer.json spells out for
// them.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace svdllm {

struct ByteLevelKind {
  std::string_view name;           // as GGUF files have it in tokenizer.ggml.pre
  const char* words = nullptr;     // the expression that cuts a text; nullptr: ByteLevel's own
  bool nfc = false;                // the text is normalized
  bool individual_digits = false;  // each digit is a word
  bool ignore_merges = false;      // words of the vocabulary are one token whatever the merges say
};

// Returns nullptr where the name is not known. KnownByteLevelKinds() lists the names that are.
const ByteLevelKind* FindByteLevelKind(std::string_view name);
std::string KnownByteLevelKinds();

// Returns a tokenizer.json without added tokens and post-processor. vocab is an object of tokens
// and their ids, merges an array of "left right".
nlohmann::json ByteLevelTokenizerJson(const ByteLevelKind& kind, nlohmann::json vocab,
                                      nlohmann::json merges, bool add_prefix_space);

}  // namespace svdllm
