// A task's questions, read from files.
#pragma once

#include <string>
#include <vector>

#include "tasks/task_table.h"

namespace svdllm {

struct TaskSource {
  std::string path;
  std::string labels_path;  // where the dataset has its answers in a file of their own; else empty
  std::string examples_path;  // a file like path, its answers within
  int64_t examples = 0;       // the first so many, solved, in front of every question
  int64_t limit = 0;          // questions at most; 0: all
};

// In the file's order. INVALID_ARGUMENT with INVALID_FIELD for a source that the task cannot have,
// DATASET_INVALID, naming file, line and field, for what is wrong in it.
absl::StatusOr<std::vector<TaskItem>> LoadItems(const TaskRow& task, const TaskSource& source);

}  // namespace svdllm
