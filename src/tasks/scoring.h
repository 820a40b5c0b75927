// What answers are worth.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tasks/task_item.h"

namespace svdllm {

// Returns the place of the largest value, or of the first of several equal ones.
int64_t FirstMaximum(std::span<const double> values);

// Returns the choice with the largest log-likelihood. With per_character, each is divided by the
// length of its choice in characters first, and an empty choice never wins.
int64_t Predict(const TaskItem& item, std::span<const double> log_likelihoods, bool per_character);

// Scores one item: one number per metric of its task, in the table's order. A multiple choice gets
// 1 for right and 0 for wrong, by Predict (acc) and by Predict per character (acc_norm).
std::vector<double> ScoreChoices(std::span<const std::string_view> metrics, const TaskItem& item,
                                 std::span<const double> log_likelihoods);
// Returns bleu_acc (whether the best right answer is nearer than the best wrong one), bleu_max and
// bleu_diff.
std::vector<double> ScoreTruthfulQa(const TaskItem& item, std::string_view text);
// Returns whether the number is the right one: first for the number behind ####, then for the last
// number in the text.
std::vector<double> ScoreGsm8k(const TaskItem& item, std::string_view text);

struct MeanAndError {
  double mean = 0;
  double std_error = -1;  // sample standard deviation / √n; negative where n < 2
};
MeanAndError Summarize(std::span<const double> values);
// Returns Σ values / Σ weights, with the standard error that the scatter of the pairs gives it: of
// √(n / (n − 1) Σ (value − ratio · weight)²) / Σ weights, which for equal weights is that of a
// mean. The error is negative where there are fewer than two pairs.
MeanAndError RatioOf(std::span<const double> values, std::span<const int64_t> weights);

}  // namespace svdllm
