// The steps from tokens back to text: what tokenizer.json calls its decoder.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "tokenizer/steps.h"

namespace svdllm {

// Each token's printable characters become the bytes that they stand for; all tokens become one
// text, invalid UTF-8 in it U+FFFD.
struct BytesOfTokens {};
// Neighbouring <0xNN> tokens become the text that they spell, or one U+FFFD each.
struct BytesOfFallback {};
struct JoinTokens {};
// From each token's ends, at most so many times.
struct StripTokens {
  std::string content;
  int start = 0, stop = 0;
};
// Becomes a space; in the first token nothing where drop_first is set.
struct SpacesOfTokens {
  std::string replacement;
  bool drop_first = true;
};
using DecoderStep = std::variant<BytesOfTokens, BytesOfFallback, JoinTokens, StripTokens,
                                 SpacesOfTokens, ReplaceInText>;

// The text of the tokens, all valid UTF-8, after all steps.
std::string ApplyDecoder(const std::vector<DecoderStep>& steps, std::vector<std::string> tokens);

// The byte that <0xNN> is written for; -1 for any other token.
int FallbackByte(std::string_view token);

}  // namespace svdllm
