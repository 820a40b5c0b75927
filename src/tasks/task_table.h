// The tasks: which questions a dataset asks, what a model is asked in their place, and how an
// answer scores, as in lm-evaluation-harness. A task is a row of a table. docs/tasks.md lists them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tasks/task_item.h"

namespace svdllm {

enum class TaskKind { kMultipleChoice, kGeneration };

struct Record;

struct TaskRow {
  std::string_view name;
  TaskKind kind = TaskKind::kMultipleChoice;
  // The figures of one item, in this order. A task's figure is the mean over its items. The first
  // metric is a share.
  std::vector<std::string_view> metrics;
  // The field that a labels file fills; empty: the dataset has no such file.
  std::string_view labels_field;
  bool takes_examples = true;  // false: its prompt has examples of its own
  absl::StatusOr<TaskItem> (*parse)(const Record& record) = nullptr;
  // For generations: where the text ends, besides the model's own end of text, and what it scores.
  std::vector<std::string> stops;
  std::vector<double> (*score)(const TaskItem& item, std::string_view text) = nullptr;
};

inline constexpr int64_t kMaxNewTokens = 256;  // the most that a generation may have

const std::vector<TaskRow>& Tasks();
// INVALID_ARGUMENT with INVALID_FIELD and the names of all tasks where no task has this name.
absl::StatusOr<const TaskRow*> FindTask(std::string_view name);

}  // namespace svdllm
