// BLEU of one sentence against one reference.
#pragma once

#include <string>
#include <string_view>

namespace svdllm {

// In points of 100, over n-grams up to 4. Words are cut by the international tokenisation of NIST's
// mteval-v14: punctuation and symbols are words of their own, except for punctuation between
// digits. A precision of zero is smoothed to 100 / (2^k · n-grams), where k counts such orders. 0
// where no word matches, or where the hypothesis has fewer than four words.
double SentenceBleu(std::string_view hypothesis, std::string_view reference);

}  // namespace svdllm
