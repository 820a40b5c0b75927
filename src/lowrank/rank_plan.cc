#include "lowrank/rank_plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <numeric>

namespace svdllm {
namespace {

// A matrix keeps at least this share whatever its loss says, and what rank 1 takes.
constexpr double kSmallestKeep = 0.02;

double LeastKeep(const AllocationItem& item) {
  return std::max(kSmallestKeep, static_cast<double>(FactorCost(item.rows, item.cols, 1)) /
                                     static_cast<double>(item.rows * item.cols));
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

std::string AllocationName(Allocation allocation) {
  return allocation == Allocation::kV2 ? "v2" : "uniform";
}

int64_t FactorCost(int64_t rows, int64_t cols, int64_t rank) { return rank * (rows + cols); }

int64_t RankFor(int64_t rows, int64_t cols, double keep_ratio) {
  if (keep_ratio >= 1) return 0;
  const double exact = keep_ratio * static_cast<double>(rows) * static_cast<double>(cols) /
                       static_cast<double>(rows + cols);
  // A product that is a whole number in decimal must not lose a rank to its binary rounding.
  const int64_t rank = std::max<int64_t>(1, static_cast<int64_t>(std::floor(exact + 1e-9)));
  return FactorCost(rows, cols, rank) < rows * cols ? rank : 0;
}

std::vector<int64_t> AllocateV2(const std::vector<AllocationItem>& items, double keep_ratio) {
  std::map<std::string, std::vector<size_t>> groups;
  for (size_t i = 0; i < items.size(); ++i) groups[items[i].group].push_back(i);
  std::vector<int64_t> ranks(items.size(), 0);
  for (const auto& [name, members] : groups) {
    std::vector<double> weights;
    double least = 0;
    for (const size_t i : members) {
      const AllocationItem& item = items[i];
      least = std::max(least, LeastKeep(item));
      const double loss = TailLoss(item.spectrum, RankFor(item.rows, item.cols, keep_ratio));
      weights.push_back(1.0 / std::log(std::max(loss, std::numbers::e)));
    }
    const std::vector<double> removed =
        SharesWithMean(weights, 1 - keep_ratio, 1 - std::min(least, keep_ratio));
    for (size_t i = 0; i < members.size(); ++i) {
      const AllocationItem& item = items[members[i]];
      ranks[members[i]] = RankFor(item.rows, item.cols, 1 - removed[i]);
    }
  }
  return ranks;
}

}  // namespace svdllm
