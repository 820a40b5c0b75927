#include "lowrank/rank_plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>

#include "lowrank/allocation_options.h"

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

std::map<std::string, std::vector<size_t>> GroupsOf(const std::vector<AllocationItem>& items) {
  std::map<std::string, std::vector<size_t>> groups;
  for (size_t i = 0; i < items.size(); ++i) groups[items[i].group].push_back(i);
  return groups;
}

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

std::string AllocationName(Allocation allocation) {
  switch (allocation) {
    case Allocation::kUniform:
      return "uniform";
    case Allocation::kV2:
      return "v2";
    case Allocation::kDRank:
      return "d_rank";
    case Allocation::kRelativeTails:
      return "relative_tails";
    case Allocation::kKlProbe:
      return "kl_probe";
  }
  return "?";
}

std::string EncodingName(Encoding encoding) {
  return encoding == Encoding::kPivoted ? "pivoted" : "plain";
}

int64_t StoredNumbers(Encoding encoding, int64_t rows, int64_t cols, int64_t rank) {
  if (rank == 0) return rows * cols;
  return rank * (rows + cols - (encoding == Encoding::kPivoted ? rank : 0));
}

int64_t UniformRank(const RankRules& rules, int64_t rows, int64_t cols) {
  if (rules.keep_ratio >= 1) return 0;
  const auto m = static_cast<double>(rows), n = static_cast<double>(cols);
  // A product that is a whole number in decimal must not lose a rank to its binary rounding.
  const double budget = std::min(rules.keep_ratio * m * n + 1e-6, m * n);
  const double root = std::sqrt(std::max((m + n) * (m + n) - 4 * budget, 0.0));
  const double exact = rules.encoding == Encoding::kPivoted ? (m + n - root) / 2 : budget / (m + n);
  int64_t rank = std::clamp<int64_t>(static_cast<int64_t>(exact), 1, std::min(rows, cols));
  // The root is rounded: its neighbours decide.
  const auto fits = [&](int64_t k) {
    return static_cast<double>(StoredNumbers(rules.encoding, rows, cols, k)) <= budget;
  };
  while (rank > 1 && !fits(rank)) --rank;
  while (rank < std::min(rows, cols) && fits(rank + 1)) ++rank;
  if (rank > rules.multiple) rank -= rank % rules.multiple;
  return StoredNumbers(rules.encoding, rows, cols, rank) < rows * cols ? rank : 0;
}

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
