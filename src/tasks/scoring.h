// What answers are worth.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tasks/task_item.h"

namespace svdllm {

// The first of the largest.
int64_t FirstMaximum(std::span<const double> values);

// The choice with the largest log-likelihood; per_character: each divided by the length of its
// choice in characters, an empty one never wins.
int64_t Predict(const TaskItem& item, std::span<const double> log_likelihoods, bool per_character);

// Of one item: a number per metric of its task, in the table's order. Multiple choice: 1 for right,
// 0 for wrong, by Predict (acc) and by Predict per character (acc_norm).
std::vector<double> ScoreChoices(std::span<const std::string_view> metrics, const TaskItem& item,
                                 std::span<const double> log_likelihoods);
// bleu_acc (whether the best right answer is nearer than the best wrong one), bleu_max and
// bleu_diff.
std::vector<double> ScoreTruthfulQa(const TaskItem& item, std::string_view text);
// Whether the number is the right one: the one behind ####, and the last one in the text.
std::vector<double> ScoreGsm8k(const TaskItem& item, std::string_view text);

struct MeanAndError {
  double mean = 0;
  double std_error = -1;  // sample standard deviation / √n; negative where n < 2
};
MeanAndError Summarize(std::span<const double> values);

}  // namespace svdllm
