// How likely a model finds given continuations.
#pragma once

#include <vector>

#include "evaluate/prompts.h"
#include "job/progress.h"
#include "model/cost.h"
#include "model/forward.h"
#include "model/sequences.h"

namespace svdllm {

// The choices of some items as sequences: what an item's choices begin with is computed once, as
// the parent of what differs. Choices that are the same are computed once, so that they tie.
struct ChoiceLayout {
  Sequences sequences;
  // Predictions, one computed choice after the other: this row's token is followed by that target.
  std::vector<int64_t> rows;
  std::vector<int32_t> targets;
  std::vector<size_t> ends;      // of each computed choice, in rows
  std::vector<size_t> computed;  // of each choice, item by item: which computed one it is

  void Append(const std::vector<EncodedChoice>& item, const ModelConfig& config);
};

// Σ log p(target | what precedes it) of each choice, natural logarithm, item by item. The model is
// streamed a block at a time over groups of items, so memory is bounded. NUMERICAL_FAILURE, naming
// the question, where one is not finite. Advances progress by ChoiceFlops. tokens: how many were
// computed.
absl::StatusOr<std::vector<std::vector<double>>> LogLikelihoods(const Checkpoint& checkpoint,
                                                                const TaskData& data,
                                                                Backend& backend,
                                                                Progress& progress,
                                                                int64_t* tokens);
double ChoiceFlops(const Checkpoint& checkpoint, const TaskData& data);

}  // namespace svdllm
