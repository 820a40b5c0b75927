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

// What a perplexity is the mean of, to be paired with another model's, window by window.
struct WindowLosses {
  std::vector<double> nll;         // of each window: Σ −ln p
  std::vector<int64_t> predicted;  // of each window: its predictions
  uint64_t ids_hash = 0;           // of all windows' token ids: equal where the windows are
};

// Returns exp of the mean over all windows of −ln p(token | what precedes it in its window). A
// window of n tokens has n − 1 predictions, and every window counts. A logit that is not finite is
// NUMERICAL_FAILURE. The model is streamed a block at a time over groups of windows, so memory is
// bounded. Advances progress by PerplexityFlops (model/cost.h). *losses becomes what the mean is
// of.
absl::StatusOr<PerplexityResult> MeasurePerplexity(const Checkpoint& checkpoint,
                                                   const TextWindows& data, Backend& backend,
                                                   Progress& progress, WindowLosses* losses);

// How much text all of these are together.
Workload WorkloadOf(const std::vector<TextWindows>& texts);

}  // namespace svdllm
