// BLEU of one sentence against one reference.
#pragma once

#include <string>
#include <string_view>

namespace svdllm {

// In points of 100: n-grams up to 4, the international tokenisation of NIST's mteval-v14
// (punctuation and symbols are words of their own, but for punctuation between digits), a precision
// of zero smoothed to 100 / (2^k · n-grams), k counting such orders. 0 where no word matches, or
// where the hypothesis has fewer than four words.
double SentenceBleu(std::string_view hypothesis, std::string_view reference);

}  // namespace svdllm
