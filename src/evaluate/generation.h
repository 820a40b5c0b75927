// What a model writes behind given prompts.
#pragma once

#include <string>
#include <vector>

#include "evaluate/prompts.h"
#include "job/progress.h"
#include "linalg/backend.h"

namespace svdllm {

// Returns the greedy continuation of every prompt, up to the model's end of text, the first of the
// task's stops or data.new_tokens tokens. It is without special tokens and is cut before the stop.
// Prompts are computed in batches, and what all of them begin with once. A text that is done leaves
// its batch. The whole model is in memory. NUMERICAL_FAILURE where a logit is not finite. Advances
// progress by GenerationFlops. *tokens becomes the number of tokens that were computed.
absl::StatusOr<std::vector<std::string>> GenerateTexts(const Checkpoint& checkpoint,
                                                       const Tokenizer& tokenizer,
                                                       const TaskData& data, Backend& backend,
                                                       Progress& progress, int64_t* tokens);
// An estimate of the work: how long the texts become is not known.
double GenerationFlops(const Checkpoint& checkpoint, const TaskData& data);
// The most bytes that the cache of keys and values takes, beside the model's own memory.
int64_t GenerationCacheBytes(const ModelConfig& config);

}  // namespace svdllm
