#include "lowrank/rank_plan.h"

#include <algorithm>

namespace svdllm {

int64_t UniformRank(const RankRules& rules, int64_t rows, int64_t cols) {
  if (rules.keep_ratio >= 1) return 0;
  // A product that is a whole number in decimal must not lose a rank to its binary rounding.
  const auto whole = static_cast<double>(rows * cols);
  const double budget = std::min(rules.keep_ratio * whole + 1e-6, whole);
  const EncodingRow& encoding = RowOf(rules.encoding);
  int64_t rank = 1, most = std::min(rows, cols);
  while (rank < most) {
    const int64_t middle = (rank + most + 1) / 2;
    const bool fits = static_cast<double>(encoding.numbers(rows, cols, middle)) <= budget;
    (fits ? rank : most) = fits ? middle : middle - 1;
  }
  if (rank > rules.multiple) rank -= rank % rules.multiple;
  return StoredNumbers(rules.encoding, rows, cols, rank) < rows * cols ? rank : 0;
}

std::map<std::string, std::vector<size_t>> GroupsOf(const std::vector<AllocationItem>& items) {
  std::map<std::string, std::vector<size_t>> groups;
  for (size_t i = 0; i < items.size(); ++i) groups[items[i].group].push_back(i);
  return groups;
}

std::vector<RankOption> RankOptions(const AllocationItem& item, const RankRules& rules) {
  const int64_t dense = item.rows * item.cols;
  const auto most = static_cast<int64_t>(item.spectrum.size());
  RankRules least = rules;
  least.keep_ratio = rules.min_keep_ratio;
  // No rank saves anything: the only option is dense.
  int64_t rank = rules.min_keep_ratio > 0 ? UniformRank(least, item.rows, item.cols) : 1;
  if (rank == 0) rank = most + 1;
  // Tails from the smallest eigenvalue up; what rounding made negative counts as nothing.
  std::vector<double> tails(item.spectrum.size() + 1, 0);
  for (size_t j = item.spectrum.size(); j > 0; --j) {
    tails[j - 1] = tails[j] + std::max(item.spectrum[j - 1], 0.0);
  }
  std::vector<RankOption> options;
  // The least rank may lie below one multiple; from there on multiples.
  for (; rank <= most; rank += rules.multiple - rank % rules.multiple) {
    const int64_t numbers = StoredNumbers(rules.encoding, item.rows, item.cols, rank);
    if (numbers >= dense) break;
    const double share = tails[0] > 0 ? tails[static_cast<size_t>(rank)] / tails[0] : 0;
    options.push_back({rank, numbers * item.element_bytes, item.weight * share});
  }
  options.push_back({0, dense * item.element_bytes, 0});
  return options;
}

int64_t BudgetBytes(const std::vector<AllocationItem>& items, const RankRules& rules) {
  double total = 0;
  for (const AllocationItem& item : items) {
    total += static_cast<double>(item.rows * item.cols * item.element_bytes);
  }
  return static_cast<int64_t>(rules.keep_ratio * total + 1e-6);
}

double LeastKeepRatio(const std::vector<AllocationItem>& items, const RankRules& rules) {
  double least = 0, whole = 0;
  for (const AllocationItem& item : items) {
    const std::vector<RankOption> options = RankOptions(item, rules);
    least += static_cast<double>(options.front().cost);
    whole += static_cast<double>(options.back().cost);
  }
  return whole > 0 ? least / whole : 0;
}

}  // namespace svdllm
