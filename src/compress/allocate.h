// Which rank every matrix of a model gets.
#pragma once

#include <vector>

#include "compress/context.h"

namespace svdllm {

// The ranks of one keep ratio a row, a target each: from the shapes alone, or, for an allocation
// that needs spectra, from a pass of its own over the dense model.
absl::StatusOr<std::vector<std::vector<int64_t>>> AllocateRanks(const CompressContext& context);

}  // namespace svdllm
