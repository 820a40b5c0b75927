// The steps from tokens back to text: what tokenizer.json calls its decoder.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "tokenizer/steps.h"

namespace svdllm {

// Each token's printable characters become the bytes that they stand for. All tokens become one
// text, in which invalid UTF-8 is U+FFFD.
struct BytesOfTokens {};
// Neighbouring <0xNN> tokens become the text that they spell, or one U+FFFD per token.
struct BytesOfFallback {};
struct JoinTokens {};
// Takes content off each token's ends: at most `start` times in front and `stop` times behind.
struct StripTokens {
  std::string content;
  int start = 0, stop = 0;
};
// Turns replacement into a space. In the first token, drop_first turns it into nothing.
struct SpacesOfTokens {
  std::string replacement;
  bool drop_first = true;
};
// A literal text, which is not empty.
struct ReplaceInTokens {
  std::string from, to;
};
using DecoderStep = std::variant<BytesOfTokens, BytesOfFallback, JoinTokens, StripTokens,
                                 SpacesOfTokens, ReplaceInTokens>;

// Returns the text of the tokens after all steps. The tokens are valid UTF-8.
std::string ApplyDecoder(const std::vector<DecoderStep>& steps, std::vector<std::string> tokens);

// Returns the byte that <0xNN> is written for, and -1 for any other token.
int FallbackByte(std::string_view token);

}  // namespace svdllm
