#include "tasks/bleu.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <span>
#include <vector>

#include "tasks/text.h"
#include "tasks/text_pattern.h"

namespace svdllm {
namespace {

constexpr size_t kOrders = 4;

std::vector<std::string> Words(std::string_view text) {
  static const TextPattern not_number_punctuation("(\\P{N})(\\p{P})");
  static const TextPattern punctuation_not_number("(\\p{P})(\\P{N})");
  static const TextPattern symbol("(\\p{S})");
  std::string line = not_number_punctuation.Replace(StripSpaceRight(text), "$1 $2 ");
  line = punctuation_not_number.Replace(line, " $1 $2");
  line = symbol.Replace(line, " $1 ");
  std::vector<std::string> words;
  for (const std::string_view word : SplitAtSpace(line)) words.emplace_back(word);
  return words;
}

using Counts = std::map<std::vector<std::string>, int64_t>;

Counts CountGrams(const std::vector<std::string>& words, size_t order) {
  Counts counts;
  for (size_t i = 0; i + order <= words.size(); ++i) {
    const auto begin = words.begin() + static_cast<std::ptrdiff_t>(i);
    ++counts[{begin, begin + static_cast<std::ptrdiff_t>(order)}];
  }
  return counts;
}

}  // namespace

double SentenceBleu(std::string_view hypothesis, std::string_view reference) {
  const std::vector<std::string> words = Words(hypothesis), expected = Words(reference);
  double logs = 0, smoothing = 1;
  for (size_t order = 1; order <= kOrders; ++order) {
    if (words.size() < order) return 0;
    const auto grams = static_cast<double>(words.size() - order + 1);
    const Counts wanted = CountGrams(expected, order);
    int64_t matches = 0;
    for (const auto& [gram, count] : CountGrams(words, order)) {
      const auto found = wanted.find(gram);
      if (found != wanted.end()) matches += std::min(count, found->second);
    }
    if (matches == 0 && order == 1) return 0;  // then no longer one matches either
    if (matches == 0) smoothing *= 2;
    logs += std::log(100 * (matches == 0 ? 1 / smoothing : static_cast<double>(matches)) / grams);
  }
  const double length = static_cast<double>(words.size()),
               wanted_length = static_cast<double>(expected.size());
  const double brevity = length < wanted_length ? std::exp(1 - wanted_length / length) : 1;
  return brevity * std::exp(logs / kOrders);
}

}  // namespace svdllm
