// The tasks: which questions a dataset asks, what a model is asked in their place, and how an
// answer scores, as lm-evaluation-harness has it. A task is a row of a table; docs/tasks.md lists
// them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace svdllm {

// One question. A model either weighs given answers, each a continuation of a context, or writes
// one.
struct TaskItem {
  // One and several continuations, or several and one: choice i is the two with number i. A
  // generation has one context, its prompt, and no continuations.
  std::vector<std::string> contexts, continuations;
  // As the dataset has them; acc_norm measures their lengths. One a choice.
  std::vector<std::string> choices;
  int64_t gold = 0;  // the right choice
  // Generations: what scores well, the first being the answer in full, and what scores ill.
  std::vector<std::string> references, wrong_references;

  int64_t choice_count() const { return static_cast<int64_t>(choices.size()); }
  const std::string& context(int64_t choice) const {
    return contexts[contexts.size() > 1 ? static_cast<size_t>(choice) : 0];
  }
  const std::string& continuation(int64_t choice) const {
    return continuations[continuations.size() > 1 ? static_cast<size_t>(choice) : 0];
  }
};

enum class TaskKind { kMultipleChoice, kGeneration };

struct Record;

struct TaskRow {
  std::string_view name;
  TaskKind kind = TaskKind::kMultipleChoice;
  // Of an item, in this order; a task's figure is the mean over its items. The first is a share.
  std::vector<std::string_view> metrics;
  // The field that a labels file fills; empty: the dataset has no such file.
  std::string_view labels_field;
  bool takes_examples = true;  // false: its prompt has examples of its own
  absl::StatusOr<TaskItem> (*parse)(const Record& record) = nullptr;
  // Generations: where the text ends, besides the model's own end of text, and what it scores.
  std::vector<std::string> stops;
  std::vector<double> (*score)(const TaskItem& item, std::string_view text) = nullptr;
};

inline constexpr int64_t kMaxNewTokens = 256;  // of a generation

const std::vector<TaskRow>& Tasks();
// INVALID_ARGUMENT with INVALID_FIELD and the names of all tasks where there is none of this name.
absl::StatusOr<const TaskRow*> FindTask(std::string_view name);

}  // namespace svdllm
