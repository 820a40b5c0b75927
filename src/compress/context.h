// What every part of a compression shares.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/linears.h"
#include "job/progress.h"
#include "job/spec.h"
#include "linalg/backend.h"
#include "model/sequences.h"

namespace svdllm {

// Where a compression's data lie and what is under way at a time. Results do not depend on it.
struct Placement {
  bool host_streams = false;  // residual streams lie in the host's memory
  bool overlap = false;       // a layer's eigenproblems run beside the next layer's calibration
  bool one_matrix = false;    // a layer's matrices are decomposed one after the other
};

// What all blocks of one compression share. References: the owner outlives the call.
struct CompressContext {
  const CompressSpec& spec;  // resolved
  const Checkpoint& checkpoint;
  const std::vector<Target>& targets;
  const Sequences& calibration;
  Backend& backend;
  RunLog& log;
  Placement placement = {};
};

// The position of a linear, the i-th of its layer, among the targets.
inline size_t TargetIndex(const CompressContext& context, int64_t layer, size_t i) {
  return static_cast<size_t>(layer) * context.checkpoint.arch().linears.size() + i;
}

// The linears of a layer, by their numbers in the table, in groups that are decomposed together.
std::vector<std::vector<size_t>> DecompositionGroups(const CompressContext& context);

// Tells whoever looks on that a layer has been factorised.
absl::Status LayerDone(const CompressContext& context, int64_t layer);

// What went wrong while a layer's matrices were decomposed, with the layer's number.
absl::Status LayerError(const absl::Status& status, int64_t layer);

}  // namespace svdllm
