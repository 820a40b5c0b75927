// Perplexity of a checkpoint, dense or factored, over windows of tokens.
#pragma once

#include "checkpoint/checkpoint.h"
#include "corpus/windows.h"
#include "job/progress.h"
#include "linalg/backend.h"
#include "model/cost.h"

namespace svdllm {

// What is measured is streamed through the model in groups, of windows or of questions: so many
// bytes the residual streams of one may take.
inline constexpr int64_t kGroupBytes = int64_t{1} << 29;

// exp of the mean over all windows of −ln p(token | what precedes it in its window): a window of n
// tokens has n − 1 predictions. Every window counts; a logit that is not finite is
// NUMERICAL_FAILURE. The model is streamed a block at a time over groups of windows, so memory is
// bounded. Advances progress by PerplexityFlops.
absl::StatusOr<PerplexityResult> MeasurePerplexity(const Checkpoint& checkpoint,
                                                   const TextWindows& data, Backend& backend,
                                                   Progress& progress);

// Of all texts together.
Workload WorkloadOf(const std::vector<TextWindows>& texts);

}  // namespace svdllm
