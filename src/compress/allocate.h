// Decides which rank every matrix of a model gets.
#pragma once

#include <vector>

#include "compress/context.h"
#include "model/cost.h"

namespace svdllm {

// Ranks come from the shapes alone or, for an allocation that needs spectra, from a pass of its own
// over the dense model. ranks[1][17] is the rank of the second keep ratio's eighteenth linear
// layer.
absl::StatusOr<std::vector<std::vector<int64_t>>> AllocateRanks(const CompressRun& run);

// The work of that, in the unit of model/cost.h.
double AllocationFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                       const Workload& calibration);

}  // namespace svdllm
