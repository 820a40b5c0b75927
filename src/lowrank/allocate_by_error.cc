#include <algorithm>
#include <cmath>

#include "lowrank/allocation.h"

namespace svdllm {
namespace {

using Options = std::vector<std::vector<RankOption>>;
// An index into each item's options.
using Choice = std::vector<size_t>;

int64_t CostOf(const Options& options, const Choice& choice) {
  int64_t cost = 0;
  for (size_t i = 0; i < choice.size(); ++i) cost += options[i][choice[i]].cost;
  return cost;
}

// What each item takes where a byte costs `price`; the cheaper of equals.
Choice AtPrice(const Options& options, double price) {
  Choice choice(options.size(), 0);
  for (size_t i = 0; i < options.size(); ++i) {
    double best = INFINITY;
    for (size_t j = 0; j < options[i].size(); ++j) {
      const double value = options[i][j].error + price * static_cast<double>(options[i][j].cost);
      if (value < best) {
        best = value;
        choice[i] = j;
      }
    }
  }
  return choice;
}

// Upgrades, one item at a time, whatever buys most error for its bytes and still fits; in the end
// what buys nothing on the calibration data, and may elsewhere.
void SpendRest(const Options& options, int64_t budget, Choice& choice) {
  int64_t left = budget - CostOf(options, choice);
  while (left > 0) {
    double best = 0;
    size_t item = options.size(), to = 0;
    for (size_t i = 0; i < options.size(); ++i) {
      const RankOption& now = options[i][choice[i]];
      for (size_t j = choice[i] + 1; j < options[i].size(); ++j) {
        const int64_t cost = options[i][j].cost - now.cost;
        if (cost > left) break;
        const double gain = (now.error - options[i][j].error) / static_cast<double>(cost);
        if (gain > best) {
          best = gain;
          item = i;
          to = j;
        }
      }
    }
    if (item == options.size()) break;
    left -= options[item][to].cost - options[item][choice[item]].cost;
    choice[item] = to;
  }
  for (size_t i = 0; i < options.size(); ++i) {
    const int64_t now = options[i][choice[i]].cost;
    while (choice[i] + 1 < options[i].size() && options[i][choice[i] + 1].cost - now <= left) {
      ++choice[i];
    }
    left -= options[i][choice[i]].cost - now;
  }
}

}  // namespace

std::vector<int64_t> AllocateByError(const std::vector<AllocationItem>& items,
                                     const RankRules& rules) {
  if (rules.keep_ratio >= 1) return std::vector<int64_t>(items.size(), 0);
  Options options;
  for (const AllocationItem& item : items) options.push_back(RankOptions(item, rules));
  const int64_t budget = BudgetBytes(items, rules);
  Choice choice = AtPrice(options, 0);
  if (CostOf(options, choice) > budget) {
    double low = 0, high = 1e-12;
    while (CostOf(options, AtPrice(options, high)) > budget && high < 1e30) high *= 10;
    for (int step = 0; step < 200; ++step) {
      const double middle = (low + high) / 2;
      (CostOf(options, AtPrice(options, middle)) > budget ? low : high) = middle;
    }
    choice = AtPrice(options, high);
  }
  SpendRest(options, budget, choice);
  std::vector<int64_t> ranks;
  for (size_t i = 0; i < choice.size(); ++i) ranks.push_back(options[i][choice[i]].rank);
  return ranks;
}

double AllocationError(const std::vector<AllocationItem>& items,
                       const std::vector<int64_t>& ranks) {
  double error = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    if (ranks[i] == 0) continue;
    double tail = 0, total = 0;
    for (size_t j = items[i].spectrum.size(); j > 0; --j) {
      total += std::max(items[i].spectrum[j - 1], 0.0);
      if (j == static_cast<size_t>(ranks[i]) + 1) tail = total;
    }
    if (total > 0) error += items[i].weight * tail / total;
  }
  return error;
}

}  // namespace svdllm
