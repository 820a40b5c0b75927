#include <algorithm>
#include <cmath>
#include <numbers>

#include "lowrank/allocation.h"

namespace svdllm {
namespace {

// V2 leaves a matrix at least this share whatever its loss says, and what rank 1 takes.
constexpr double kSmallestKeep = 0.02;

double LeastKeep(const AllocationItem& item, const RankRules& rules) {
  const auto rank_1 = static_cast<double>(StoredNumbers(rules.encoding, item.rows, item.cols, 1));
  return std::max(kSmallestKeep, rank_1 / static_cast<double>(item.rows * item.cols));
}

double TailLoss(const std::vector<double>& spectrum, int64_t rank) {
  double sum = 0;
  for (size_t j = spectrum.size(); j > static_cast<size_t>(rank); --j) sum += spectrum[j - 1];
  return std::sqrt(std::max(sum, 0.0));
}

// Scales weights to shares with the given mean, none above the limit: what a capped share cannot
// take goes to the rest.
std::vector<double> SharesWithMean(const std::vector<double>& weights, double mean, double limit) {
  std::vector<double> shares(weights.size(), 0.0);
  std::vector<bool> capped(weights.size(), false);
  double left = mean * static_cast<double>(weights.size());
  for (bool again = true; again;) {
    again = false;
    double total = 0;
    for (size_t i = 0; i < weights.size(); ++i) total += capped[i] ? 0.0 : weights[i];
    for (size_t i = 0; i < weights.size() && total > 0; ++i) {
      if (!capped[i]) shares[i] = left * weights[i] / total;
    }
    for (size_t i = 0; i < weights.size(); ++i) {
      if (capped[i] || shares[i] <= limit) continue;
      capped[i] = again = true;
      shares[i] = limit;
      left -= limit;
    }
  }
  return shares;
}

}  // namespace

std::vector<int64_t> AllocateV2(const std::vector<AllocationItem>& items, const RankRules& rules) {
  std::vector<int64_t> ranks(items.size(), 0);
  for (const auto& [name, members] : GroupsOf(items)) {
    std::vector<double> weights;
    double least = 0;
    for (const size_t i : members) {
      const AllocationItem& item = items[i];
      least = std::max(least, LeastKeep(item, rules));
      const double loss = TailLoss(item.spectrum, UniformRank(rules, item.rows, item.cols));
      weights.push_back(1.0 / std::log(std::max(loss, std::numbers::e)));
    }
    const std::vector<double> removed =
        SharesWithMean(weights, 1 - rules.keep_ratio, 1 - std::min(least, rules.keep_ratio));
    for (size_t i = 0; i < members.size(); ++i) {
      const AllocationItem& item = items[members[i]];
      RankRules own = rules;
      own.keep_ratio = 1 - removed[i];
      ranks[members[i]] = UniformRank(own, item.rows, item.cols);
    }
  }
  return ranks;
}

}  // namespace svdllm
