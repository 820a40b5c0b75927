// Activations of many sequences, taken through the model a block at a time.
#pragma once

#include <functional>
#include <vector>

#include "model/forward.h"
#include "pipeline/sequences.h"

namespace svdllm {

// Consecutive sequences that go through a block together.
struct Batch {
  int64_t first_row = 0, rows = 0;
  std::vector<int64_t> offsets;  // within the batch
  std::vector<int64_t> parents;  // likewise, as in Sequences
};

// Batches of whole sequences, those with one parent and itself together, with at most max_tokens
// tokens (more where that is more).
std::vector<Batch> MakeBatches(const Sequences& sequences, int64_t max_tokens = 4096);

int64_t LargestBatch(const std::vector<Batch>& batches);  // rows

// The residual streams of the sequences: F32 [tokens, hidden], the embeddings to begin with.
absl::StatusOr<Matrix> EmbedSequences(const Checkpoint& checkpoint, const Sequences& sequences,
                                      Backend& backend);

// Runs a block over every batch of x, in place. Where scratch is given, x stays as it is and only
// the observer sees what happens: scratch then is F32 with at least the rows of the largest batch.
absl::Status AdvanceStream(Forward& forward, const Block& block, const std::vector<Batch>& batches,
                           MatrixRef x, const MatrixRef* scratch, const BlockObserver& observer,
                           Backend& backend, const std::function<absl::Status()>& check);

}  // namespace svdllm
