#include "tasks/task_table.h"

#include "tasks/parse.h"
#include "tasks/scoring.h"

namespace svdllm {

const std::vector<TaskRow>& Tasks() {
  constexpr auto kChoice = TaskKind::kMultipleChoice;
  constexpr auto kGeneration = TaskKind::kGeneration;
  static const std::vector<TaskRow> tasks = {
      {"openbookqa", kChoice, {"acc", "acc_norm"}, "", true, ParseOpenBookQa, {}, nullptr},
      {"winogrande", kChoice, {"acc"}, "answer", true, ParseWinoGrande, {}, nullptr},
      {"hellaswag", kChoice, {"acc", "acc_norm"}, "", true, ParseHellaSwag, {}, nullptr},
      {"arc_easy", kChoice, {"acc", "acc_norm"}, "", true, ParseArc, {}, nullptr},
      {"arc_challenge", kChoice, {"acc", "acc_norm"}, "", true, ParseArc, {}, nullptr},
      {"piqa", kChoice, {"acc", "acc_norm"}, "label", true, ParsePiqa, {}, nullptr},
      {"mathqa", kChoice, {"acc", "acc_norm"}, "", true, ParseMathQa, {}, nullptr},
      {"truthfulqa_gen",
       kGeneration,
       {"bleu_acc", "bleu_max", "bleu_diff"},
       "",
       false,
       ParseTruthfulQa,
       {"\n\n"},
       ScoreTruthfulQa},
      {"gsm8k",
       kGeneration,
       {"exact_match", "exact_match_flexible"},
       "",
       true,
       ParseGsm8k,
       {"Question:", "</s>", "<|im_end|>"},
       ScoreGsm8k},
      {"multiple_choice", kChoice, {"acc", "acc_norm"}, "", true, ParseGenericChoice, {}, nullptr},
  };
  return tasks;
}

absl::StatusOr<const TaskRow*> FindTask(std::string_view name) {
  std::string known;
  for (const TaskRow& row : Tasks()) {
    if (row.name == name) return &row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  return InvalidField("task: '" + std::string(name) + "' is not one of " + known);
}

}  // namespace svdllm
