#include "lowrank/rank_plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "lowrank/method.h"

namespace svdllm {
namespace {

int64_t RankFor(int64_t rows, int64_t cols, double keep_ratio) {
  return UniformRank({Encoding::kPlain, keep_ratio}, rows, cols);
}
int64_t FactorCost(int64_t rows, int64_t cols, int64_t rank) {
  return StoredNumbers(Encoding::kPlain, rows, cols, rank);
}
std::vector<int64_t> AllocateV2(const std::vector<AllocationItem>& items, double keep_ratio) {
  return svdllm::AllocateV2(items, {Encoding::kPlain, keep_ratio});
}

TEST(UniformRankTest, PublishedRanksOfLlama7b) {
  const double ratios[] = {0.8, 0.6, 0.4, 0.2};
  const int64_t attention[] = {1638, 1228, 819, 409}, mlp[] = {2388, 1791, 1194, 597};
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(RankFor(4096, 4096, ratios[i]), attention[i]);
    EXPECT_EQ(RankFor(11008, 4096, ratios[i]), mlp[i]);
    EXPECT_EQ(RankFor(4096, 11008, ratios[i]), mlp[i]);
  }
}

TEST(UniformRankTest, LargestRankWithinTheBudget) {
  std::mt19937_64 generator(3);
  std::uniform_int_distribution<int64_t> size(1, 500);
  std::uniform_real_distribution<double> ratio(0.01, 0.999);
  for (int i = 0; i < 2000; ++i) {
    const int64_t m = size(generator), n = size(generator);
    const double keep = ratio(generator);
    const int64_t rank = RankFor(m, n, keep);
    const double budget = keep * static_cast<double>(m * n);
    if (rank == 0) {  // no factors are smaller at that rank
      EXPECT_GE(FactorCost(m, n, std::max<int64_t>(1, static_cast<int64_t>(budget) / (m + n))),
                m * n);
      continue;
    }
    EXPECT_LT(FactorCost(m, n, rank), m * n);
    if (rank > 1) {
      EXPECT_LE(static_cast<double>(FactorCost(m, n, rank)), budget + 1e-6);
    }
    EXPECT_GT(static_cast<double>(FactorCost(m, n, rank + 1)), budget);
  }
}

TEST(UniformRankTest, Edges) {
  EXPECT_EQ(RankFor(100, 100, 1.0), 0) << "everything kept: dense, no loss";
  EXPECT_EQ(RankFor(1000, 1000, 1e-9), 1) << "never less than one";
  EXPECT_EQ(RankFor(1, 50, 0.5), 0) << "a row cannot be factored";
  EXPECT_EQ(RankFor(100, 100, 0.5), 25) << "a whole number is not rounded away";
  EXPECT_EQ(RankFor(300, 300, 0.7), 105);
}

TEST(UniformRankTest, PivotedKeepsMoreAndHasNoBreakEven) {
  EXPECT_EQ(UniformRank({Encoding::kPivoted, 0.8}, 4096, 4096), 2264);
  EXPECT_EQ(UniformRank({Encoding::kPivoted, 1.0}, 100, 100), 0);
  EXPECT_EQ(UniformRank({Encoding::kPivoted, 0.5}, 1, 50), 0);
  std::mt19937_64 generator(5);
  std::uniform_int_distribution<int64_t> size(2, 500);
  std::uniform_real_distribution<double> ratio(0.01, 0.999);
  for (int i = 0; i < 2000; ++i) {
    const int64_t m = size(generator), n = size(generator);
    const RankRules rules{Encoding::kPivoted, ratio(generator)};
    const int64_t rank = UniformRank(rules, m, n);
    const auto budget = rules.keep_ratio * static_cast<double>(m * n);
    const auto cost = [&](int64_t k) {
      return static_cast<double>(StoredNumbers(Encoding::kPivoted, m, n, k));
    };
    if (rank == 0) {
      EXPECT_GT(cost(1), budget);
      continue;
    }
    if (rank > 1) {
      EXPECT_LE(cost(rank), budget + 1e-6);
    }
    if (rank < std::min(m, n)) {
      EXPECT_GT(cost(rank + 1), budget);
    }
    EXPECT_GE(rank, RankFor(m, n, rules.keep_ratio));
  }
}

TEST(UniformRankTest, Multiples) {
  EXPECT_EQ(UniformRank({Encoding::kPlain, 0.8, 0, 64}, 4096, 4096), 1600);
  EXPECT_EQ(UniformRank({Encoding::kPivoted, 0.8, 0, 8}, 576, 576) % 8, 0);
  EXPECT_EQ(UniformRank({Encoding::kPlain, 0.1, 0, 64}, 100, 100), 5) << "below one multiple";
}

TEST(UniformRankTest, NextToOneAndNextToNothing) {
  for (const Encoding encoding : {Encoding::kPlain, Encoding::kPivoted}) {
    for (const int64_t n : {2, 64, 576, 4096}) {
      for (const double keep : {std::nextafter(1.0, 0.0), 1 - 1e-12, 1 - 1e-9, 1e-12}) {
        const int64_t rank = UniformRank({encoding, keep}, n, n);
        EXPECT_GE(rank, 0);
        EXPECT_LT(rank, n);
      }
    }
  }
}

AllocationItem Item(double loss_squared, const std::string& group = "q_proj") {
  AllocationItem item{64, 64, 1, group, {}};
  item.spectrum.assign(64, loss_squared / 64);
  return item;
}

int64_t Cost(const std::vector<AllocationItem>& items, const std::vector<int64_t>& ranks) {
  int64_t cost = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    cost += ranks[i] == 0 ? items[i].rows * items[i].cols
                          : FactorCost(items[i].rows, items[i].cols, ranks[i]);
  }
  return cost;
}

TEST(AllocateV2Test, EqualLossesGiveUniformRanks) {
  const std::vector<AllocationItem> items(5, Item(1e6));
  for (const int64_t rank : AllocateV2(items, 0.6)) EXPECT_EQ(rank, RankFor(64, 64, 0.6));
}

TEST(AllocateV2Test, MoreLossKeepsMoreWithinTheBudget) {
  const std::vector<AllocationItem> items = {Item(1e2), Item(1e4), Item(1e8), Item(1e12)};
  const std::vector<int64_t> ranks = AllocateV2(items, 0.6);
  for (size_t i = 1; i < ranks.size(); ++i) EXPECT_LE(ranks[i - 1], ranks[i]);
  EXPECT_LT(ranks.front(), ranks.back());
  EXPECT_LE(Cost(items, ranks), 0.6 * 4 * 64 * 64);
}

TEST(AllocateV2Test, TheFormula) {
  // Removed shares 0.4 · 2 · (1/log L_i) / Σ: L² are tails beyond the uniform rank, 19 of 64.
  const std::vector<AllocationItem> items = {Item(1e4), Item(1e8)};
  const double tail = 45.0 / 64;
  const double w0 = 1 / std::log(std::sqrt(1e4 * tail)), w1 = 1 / std::log(std::sqrt(1e8 * tail));
  const std::vector<int64_t> ranks = AllocateV2(items, 0.6);
  EXPECT_EQ(ranks[0], RankFor(64, 64, 1 - 0.8 * w0 / (w0 + w1)));
  EXPECT_EQ(ranks[1], RankFor(64, 64, 1 - 0.8 * w1 / (w0 + w1)));
}

TEST(AllocateV2Test, GroupsDoNotTradeWithEachOther) {
  const std::vector<AllocationItem> items = {Item(1e2, "q_proj"), Item(1e12, "o_proj")};
  for (const int64_t rank : AllocateV2(items, 0.6)) EXPECT_EQ(rank, RankFor(64, 64, 0.6));
}

TEST(AllocateV2Test, DegenerateLossesStayDefined) {
  for (const double loss : {0.0, 1e-30, 1.0, 2.0}) {
    const std::vector<AllocationItem> items = {Item(loss), Item(1e30), Item(1e30)};
    for (const double keep : {0.9, 0.5, 0.2, 0.05}) {
      const std::vector<int64_t> ranks = AllocateV2(items, keep);
      EXPECT_LE(Cost(items, ranks), std::max(keep * 3 * 64 * 64, 3.0 * 128)) << loss << " " << keep;
      for (const int64_t rank : ranks) EXPECT_GE(rank, 1);
    }
  }
}

TEST(MethodTest, NamesAreDistinct) {
  EXPECT_EQ(MethodName(Method::kSvdLlmUpdate), "svd_llm_update");
  EXPECT_EQ(Methods().size(), 5u);
  for (const MethodRow& row : Methods()) EXPECT_EQ(&RowOf(row.method), &row);
}

}  // namespace
}  // namespace svdllm
