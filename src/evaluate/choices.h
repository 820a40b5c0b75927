// How likely a model finds given continuations.
#pragma once

#include <vector>

#include "evaluate/prompts.h"
#include "job/progress.h"
#include "model/cost.h"
#include "model/forward.h"
#include "model/sequences.h"

namespace svdllm {

// The choices of some items as sequences. What an item's choices begin with is computed once, as
// the parent of what differs. Choices that are the same are computed once, so that they tie.
struct ChoiceLayout {
  Sequences sequences;
  // The predictions, one computed choice after the other: targets[i] is to be predicted at row
  // rows[i].
  std::vector<int64_t> rows;
  std::vector<int32_t> targets;
  std::vector<size_t> ends;  // where the predictions of each computed choice end in rows
  // For every choice, item by item, the computed one that it is. Two items of four choices with one
  // repeated: computed is {0, 1, 2, 3, 4, 5, 4, 6}.
  std::vector<size_t> computed;

  void Append(const std::vector<EncodedChoice>& item, const ModelConfig& config);
};

// Returns Σ log p(target | what precedes it), natural logarithm: result[1][2] is that of the second
// item's third choice. The model is streamed a block at a time over groups of items, so memory is
// bounded. NUMERICAL_FAILURE, naming the question, where one is not finite. Advances progress by
// ChoiceFlops. *tokens becomes the number of tokens that were computed.
absl::StatusOr<std::vector<std::vector<double>>> LogLikelihoods(const Checkpoint& checkpoint,
                                                                const TaskData& data,
                                                                Backend& backend,
                                                                Progress& progress,
                                                                int64_t* tokens);
double ChoiceFlops(const Checkpoint& checkpoint, const TaskData& data);

}  // namespace svdllm
