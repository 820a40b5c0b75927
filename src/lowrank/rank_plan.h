// What a rank costs and how small or large it may be: pure functions of shapes and a budget, which
// every allocation (allocation.h) is made of.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lowrank/encoding.h"

namespace svdllm {

// What bounds every rank.
struct RankRules {
  Encoding encoding = Encoding::kPlain;
  double keep_ratio = 1;  // of the stored bytes of all matrices together
  // No matrix gets a rank below the largest that fits this share of its numbers. V2 has a bound of
  // its own.
  double min_keep_ratio = 0;
  // Ranks are multiples of this. Those below one multiple are as they are.
  int64_t multiple = 1;
};

// Returns the largest rank whose cost is at most keep_ratio · m n, at least 1. It is 0 (the matrix
// stays dense) where the cost of that rank is not below m n, and for a keep_ratio of 1.
int64_t UniformRank(const RankRules& rules, int64_t rows, int64_t cols);

// One matrix as an allocation sees it.
struct AllocationItem {
  int64_t rows = 0, cols = 0;
  int64_t element_bytes = 1;     // of a stored number
  std::string group;             // matrices of one type: "q_proj"
  std::vector<double> spectrum;  // λ_j, descending; the loss of rank k is (Σ_{j>k} λ_j)^{1/2}
  // What compressing it to rank 0 would cost the model, in a unit that all items share (see
  // AllocateByError).
  double weight = 1;
};

// Which of the items are in each group: groups["q_proj"] has the index of every q_proj.
std::map<std::string, std::vector<size_t>> GroupsOf(const std::vector<AllocationItem>& items);

// One of the ranks that an allocation may give a matrix.
struct RankOption {
  int64_t rank = 0;  // 0: dense
  int64_t cost = 0;  // bytes
  double error = 0;  // weight · relative tail
};

// Returns the ranks from min_keep_ratio's on that save something, by increasing cost, and dense as
// the last one.
std::vector<RankOption> RankOptions(const AllocationItem& item, const RankRules& rules);

// Returns ⌊keep_ratio · bytes of all matrices⌋.
int64_t BudgetBytes(const std::vector<AllocationItem>& items, const RankRules& rules);

// Returns the keep ratio of all matrices at their least ranks. Only the size of a spectrum counts
// here.
double LeastKeepRatio(const std::vector<AllocationItem>& items, const RankRules& rules);

}  // namespace svdllm
