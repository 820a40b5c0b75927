#include <algorithm>
#include <cmath>

#include "lowrank/allocation.h"

namespace svdllm {
namespace {

// exp of the entropy of the singular values' shares: how many of them carry the matrix.
double EffectiveRank(const std::vector<double>& spectrum) {
  double sum = 0, entropy = 0;
  for (const double value : spectrum) sum += std::sqrt(std::max(value, 0.0));
  for (const double value : spectrum) {
    const double share = value > 0 && sum > 0 ? std::sqrt(value) / sum : 0;
    if (share > 0) entropy -= share * std::log(share);
  }
  return std::exp(entropy);
}

}  // namespace

std::vector<int64_t> AllocateDRank(const std::vector<AllocationItem>& items,
                                   const RankRules& rules) {
  std::vector<int64_t> ranks(items.size(), 0);
  if (rules.keep_ratio >= 1) return ranks;
  for (const auto& [name, members] : GroupsOf(items)) {
    std::vector<double> weights;
    std::vector<std::vector<RankOption>> options;
    for (const size_t i : members) {
      weights.push_back(std::sqrt(EffectiveRank(items[i].spectrum)));
      options.push_back(RankOptions(items[i], rules));
    }
    std::vector<AllocationItem> group;
    for (const size_t i : members) group.push_back(items[i]);
    const int64_t budget = BudgetBytes(group, rules);
    // The options of largest rank up to c √R_i, and what they cost.
    const auto pick = [&](double c, std::vector<int64_t>* picked) {
      int64_t cost = 0;
      for (size_t i = 0; i < members.size(); ++i) {
        const auto wanted = static_cast<int64_t>(c * weights[i]);
        const RankOption* best = &options[i].front();
        for (const RankOption& option : options[i]) {
          // Dense, the last, stands for every rank beyond those that save something.
          if (option.rank == 0 && wanted < best->rank + rules.multiple) break;
          if (option.rank <= wanted) best = &option;
        }
        cost += best->cost;
        if (picked != nullptr) picked->push_back(best->rank);
      }
      return cost;
    };
    double low = 0, high = 1;
    while (pick(high, nullptr) <= budget && high < 1e9) high *= 2;
    for (int step = 0; step < 100; ++step) {
      const double middle = (low + high) / 2;
      (pick(middle, nullptr) <= budget ? low : high) = middle;
    }
    std::vector<int64_t> picked;
    pick(low, &picked);
    for (size_t i = 0; i < members.size(); ++i) ranks[members[i]] = picked[i];
  }
  return ranks;
}

}  // namespace svdllm
