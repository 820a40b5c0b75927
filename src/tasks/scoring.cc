#include "tasks/scoring.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/utf8.h"
#include "tasks/bleu.h"
#include "tasks/text.h"
#include "tasks/text_pattern.h"

namespace svdllm {
namespace {

constexpr char kNoAnswer[] = "[invalid]";

// What two numbers are compared by: without thousands' commas, currency, working and full stop.
std::string Bare(std::string_view answer) {
  static const TextPattern working("(?s).*#### "), stop("\\.$");
  const std::string plain = ReplaceAll(ReplaceAll(answer, ",", ""), "$", "");
  return LowerCase(stop.Replace(working.Replace(plain, ""), ""));
}

// The number behind the first ####.
std::string StrictAnswer(std::string_view text) {
  static const TextPattern pattern("#### (\\-?[0-9\\.\\,]+)");
  const auto matches = pattern.FindAll(text);
  return matches.empty() ? kNoAnswer : std::string(StripSpace(matches.front()[1]));
}

// The last number.
std::string FlexibleAnswer(std::string_view text) {
  static const TextPattern pattern("(-?[$0-9.,]{2,})|(-?[0-9]+)");
  const auto matches = pattern.FindAll(text);
  if (matches.empty()) return kNoAnswer;
  const auto& last = matches.back();
  return std::string(StripSpace(last[1].empty() ? last[2] : last[1]));
}

double BestBleu(std::string_view text, const std::vector<std::string>& references) {
  double best = 0;
  for (const std::string& reference : references) {
    best = std::max(best, SentenceBleu(text, reference));
  }
  return best;
}

}  // namespace

int64_t FirstMaximum(std::span<const double> values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

int64_t Predict(const TaskItem& item, std::span<const double> log_likelihoods, bool per_character) {
  std::vector<double> values(log_likelihoods.begin(), log_likelihoods.end());
  for (size_t i = 0; per_character && i < values.size(); ++i) {
    const size_t length = CountCharacters(item.choices[i]);
    values[i] = length > 0 ? values[i] / static_cast<double>(length)
                           : -std::numeric_limits<double>::infinity();
  }
  return FirstMaximum(values);
}

std::vector<double> ScoreChoices(std::span<const std::string_view> metrics, const TaskItem& item,
                                 std::span<const double> log_likelihoods) {
  std::vector<double> scores;
  for (const std::string_view metric : metrics) {
    const bool right = Predict(item, log_likelihoods, metric == "acc_norm") == item.gold;
    scores.push_back(right ? 1 : 0);
  }
  return scores;
}

std::vector<double> ScoreTruthfulQa(const TaskItem& item, std::string_view text) {
  const double right = BestBleu(text, item.references),
               wrong = BestBleu(text, item.wrong_references);
  return {right > wrong ? 1.0 : 0.0, right, right - wrong};
}

std::vector<double> ScoreGsm8k(const TaskItem& item, std::string_view text) {
  const std::string wanted = Bare(item.references[0]);
  return {Bare(StrictAnswer(text)) == wanted ? 1.0 : 0.0,
          Bare(FlexibleAnswer(text)) == wanted ? 1.0 : 0.0};
}

MeanAndError Summarize(std::span<const double> values) {
  MeanAndError summary;
  const auto count = static_cast<double>(values.size());
  for (const double value : values) summary.mean += value / count;
  if (values.size() < 2) return summary;
  double squares = 0;
  for (const double value : values) squares += (value - summary.mean) * (value - summary.mean);
  summary.std_error = std::sqrt(squares / (count - 1) / count);
  return summary;
}

MeanAndError RatioOf(std::span<const double> values, std::span<const int64_t> weights) {
  MeanAndError ratio;
  double sum = 0, weight = 0;
  for (const double value : values) sum += value;
  for (const int64_t w : weights) weight += static_cast<double>(w);
  ratio.mean = sum / weight;
  if (values.size() < 2) return ratio;
  double squares = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double rest = values[i] - ratio.mean * static_cast<double>(weights[i]);
    squares += rest * rest;
  }
  const auto count = static_cast<double>(values.size());
  ratio.std_error = std::sqrt(count / (count - 1) * squares) / weight;
  return ratio;
}

}  // namespace svdllm
