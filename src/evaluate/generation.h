// What a model writes behind given prompts.
#pragma once

#include <string>
#include <vector>

#include "evaluate/prompts.h"
#include "job/progress.h"
#include "linalg/backend.h"

namespace svdllm {

// The greedy continuation of every prompt, up to the model's end of text, the first of the task's
// stops or data.new_tokens tokens; without special tokens, and cut before the stop. Prompts are
// computed in batches, what all of them begin with once; a text that is done leaves its batch. The
// whole model is in memory. NUMERICAL_FAILURE where a logit is not finite. Advances progress by
// GenerationFlops. tokens: how many were computed.
absl::StatusOr<std::vector<std::string>> GenerateTexts(const Checkpoint& checkpoint,
                                                       const Tokenizer& tokenizer,
                                                       const TaskData& data, Backend& backend,
                                                       Progress& progress, int64_t* tokens);
// An estimate: how long the texts become is not known.
double GenerationFlops(const Checkpoint& checkpoint, const TaskData& data);
// The most that the cache of keys and values takes, of the memory beside the model's own.
int64_t GenerationCacheBytes(const ModelConfig& config);

}  // namespace svdllm
