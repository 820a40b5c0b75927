// Perplexity of a checkpoint, dense or factored, over windows of tokens.
#pragma once

#include "checkpoint/checkpoint.h"
#include "corpus/windows.h"
#include "job/progress.h"
#include "linalg/backend.h"
#include "model/cost.h"

namespace svdllm {

// The bytes that the residual streams of one group may take. What is measured is streamed through
// the model in groups, of windows or of questions.
inline constexpr int64_t kGroupBytes = int64_t{1} << 29;

// Returns exp of the mean over all windows of −ln p(token | what precedes it in its window). A
// window of n tokens has n − 1 predictions, and every window counts. A logit that is not finite is
// NUMERICAL_FAILURE. The model is streamed a block at a time over groups of windows, so memory is
// bounded. Advances progress by PerplexityFlops (model/cost.h).
absl::StatusOr<PerplexityResult> MeasurePerplexity(const Checkpoint& checkpoint,
                                                   const TextWindows& data, Backend& backend,
                                                   Progress& progress);

// How much text all of these are together.
Workload WorkloadOf(const std::vector<TextWindows>& texts);

}  // namespace svdllm
