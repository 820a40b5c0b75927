// A task's questions as token ids, exactly as lm-evaluation-harness feeds them to a causal model.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "job/result.h"
#include "job/spec.h"
#include "tasks/task_table.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {

// One choice. ids are its context and its continuation without the last token. Its last
// targets.size() rows predict the continuation, whose ids are targets.
struct EncodedChoice {
  std::vector<int32_t> ids, targets;
};

// Returns how many ids both begin with.
size_t SharedBeginning(std::span<const int32_t> a, std::span<const int32_t> b);

// A task, ready to be put to every model with this tokenizer and this many positions.
struct TaskData {
  TaskSpec spec;
  const TaskRow* task = nullptr;
  std::vector<DataFile> files;  // that it was read from
  std::vector<TaskItem> items;
  // choices[1][2] is the third choice of the second item. Empty for a generation.
  std::vector<std::vector<EncodedChoice>> choices;
  std::vector<std::vector<int32_t>>
      prompts;             // of a generation: prompts[1] is that of the second item
  int64_t new_tokens = 0;  // the most that a generation may have
};

// Checks that the task exists, and that its files are there and hold what they should as far as the
// first question. INVALID_FIELD or DATASET_INVALID, with the task's name in front.
absl::Status CheckTask(const TaskSpec& spec);

// Reads and encodes. Special tokens are those that the tokenizer adds by itself (usually a BOS),
// but none where the text begins with a BOS written out; spaces at the end of a context go over to
// the continuation, whose ids are those of the whole behind as many as the context alone has; an
// empty context is a BOS, or an EOS where there is none. What exceeds the model's positions is cut
// off on the left. The errors of LoadItems, with the task's name in front; MODEL_CORRUPT where the
// model has no embedding for a token of a question.
absl::StatusOr<TaskData> LoadTask(const TaskSpec& spec, const Tokenizer& tokenizer,
                                  const ModelConfig& config);

}  // namespace svdllm
