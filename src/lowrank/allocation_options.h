// The choices that an allocation has for one matrix; shared by the allocations, not by their
// callers.
#pragma once

#include <cstdint>
#include <vector>

#include "lowrank/rank_plan.h"

namespace svdllm {

struct RankOption {
  int64_t rank = 0;  // 0: dense
  int64_t cost = 0;  // bytes
  double error = 0;  // weight · relative tail
};

// By increasing cost: the ranks from min_keep_ratio's on that save something, then dense.
std::vector<RankOption> RankOptions(const AllocationItem& item, const RankRules& rules);

// ⌊keep_ratio · bytes of all the matrices⌋
int64_t BudgetBytes(const std::vector<AllocationItem>& items, const RankRules& rules);

}  // namespace svdllm
