// What a specification says of ranks.
#pragma once

#include <vector>

#include "checkpoint/linears.h"
#include "job/spec.h"

namespace svdllm {

// Whether the statistics of the dense model may be output Grams where these are smaller: factors
// that are refitted after rounding take the Gram matrix of the inputs.
inline bool WantsOutputGrams(const CompressSpec& spec) {
  return RowOf(spec.encoding).refit == nullptr;
}

// What bounds the ranks of one artifact.
RankRules RulesOf(const CompressSpec& spec, double keep_ratio);

// The uniform ranks: ranks[1][17] is that of the second keep ratio's eighteenth linear layer.
std::vector<std::vector<int64_t>> UniformRanks(const CompressSpec& spec,
                                               const std::vector<LinearLayer>& linears);

}  // namespace svdllm
