// A task's questions, read from files.
#pragma once

#include <string>
#include <vector>

#include "tasks/task_table.h"

namespace svdllm {

struct TaskSource {
  std::string path;
  // The file of the answers, for datasets that have them in a file of their own; else empty.
  std::string labels_path;
  std::string examples_path;  // a file like path, with its answers in it
  int64_t examples = 0;       // its first examples, solved, stand in front of every question
  int64_t limit = 0;          // the most questions; 0: all
};

// Returns the questions in the file's order. INVALID_ARGUMENT with INVALID_FIELD for a source that
// the task cannot have; DATASET_INVALID, naming file, line and field, for what is wrong in it.
absl::StatusOr<std::vector<TaskItem>> LoadItems(const TaskRow& task, const TaskSource& source);

}  // namespace svdllm
