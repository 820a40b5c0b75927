// Turn a record of a dataset, in its published forms, into the question that lm-evaluation-harness
// makes of it. DATASET_INVALID, naming the field, where the record is none.
#pragma once

#include "tasks/records.h"
#include "tasks/task_item.h"

namespace svdllm {

absl::StatusOr<TaskItem> ParseOpenBookQa(const Record& record);
absl::StatusOr<TaskItem> ParseWinoGrande(const Record& record);
absl::StatusOr<TaskItem> ParseHellaSwag(const Record& record);
absl::StatusOr<TaskItem> ParseArc(const Record& record);
absl::StatusOr<TaskItem> ParsePiqa(const Record& record);
absl::StatusOr<TaskItem> ParseMathQa(const Record& record);
// The record is {"query", "choices", "gold"} or {"context_options", "continuation", "gold"}.
absl::StatusOr<TaskItem> ParseGenericChoice(const Record& record);

absl::StatusOr<TaskItem> ParseTruthfulQa(const Record& record);
absl::StatusOr<TaskItem> ParseGsm8k(const Record& record);

}  // namespace svdllm
