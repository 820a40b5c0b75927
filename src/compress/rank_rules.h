// What a specification says of ranks.
#pragma once

#include <vector>

#include "checkpoint/linears.h"
#include "job/spec.h"

namespace svdllm {

// Whether the statistics of the dense model may be output Grams where these are smaller: pivoted
// factors are refitted after rounding, which takes the Gram of the inputs.
inline bool WantsOutputGrams(const CompressSpec& spec) { return spec.encoding == Encoding::kPlain; }

// What bounds the ranks of one artifact.
RankRules RulesOf(const CompressSpec& spec, double keep_ratio);

// The uniform ranks of one keep ratio a row, a target each.
std::vector<std::vector<int64_t>> UniformRanks(const CompressSpec& spec,
                                               const std::vector<Target>& targets);

}  // namespace svdllm
