// What a specification says about ranks.
#pragma once

#include <vector>

#include "checkpoint/linears.h"
#include "job/spec.h"

namespace svdllm {

// Whether the statistics of the dense model may be output Grams where these are smaller. Factors
// that are refitted after rounding need the Gram matrix of the inputs instead.
inline bool WantsOutputGrams(const CompressSpec& spec) {
  return RowOf(spec.encoding).refit == nullptr;
}

// What bounds the ranks of the artifact with this keep ratio.
RankRules RulesOf(const CompressSpec& spec, double keep_ratio);

// Returns the uniform ranks: ranks[1][17] is that of the second keep ratio's eighteenth linear
// layer.
std::vector<std::vector<int64_t>> UniformRanks(const CompressSpec& spec,
                                               const std::vector<LinearLayer>& linears);

}  // namespace svdllm
