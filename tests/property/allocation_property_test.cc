// What every allocation promises, on random models.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "lowrank/allocation.h"

namespace svdllm {
namespace {

class AllocationPropertyTest : public ::testing::TestWithParam<int> {
 protected:
  double Uniform(double low, double high) {
    return std::uniform_real_distribution<double>(low, high)(generator_);
  }
  int64_t Size(int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(generator_);
  }
  // Spectra that fall at different speeds, some with a flat end.
  std::vector<AllocationItem> Items() {
    std::vector<AllocationItem> items;
    for (int64_t i = Size(1, 12); i > 0; --i) {
      AllocationItem item{Size(8, 80),
                          Size(8, 80),
                          Size(0, 1) == 0 ? 2 : 4,
                          Size(0, 1) == 0 ? "q_proj" : "up_proj",
                          {},
                          Uniform(0, 3)};
      const double decay = Uniform(0.01, 0.4), scale = std::exp(Uniform(-20, 20));
      for (int64_t j = 0; j < std::min(item.rows, item.cols); ++j) {
        item.spectrum.push_back(scale * (std::exp(-decay * static_cast<double>(j)) + 1e-6));
      }
      items.push_back(std::move(item));
    }
    return items;
  }
  static int64_t LeastRank(const AllocationItem& item, RankRules rules) {
    rules.keep_ratio = rules.min_keep_ratio;
    return UniformRank(rules, item.rows, item.cols);
  }
  static int64_t Bytes(const std::vector<AllocationItem>& items, Encoding encoding,
                       const std::vector<int64_t>& ranks) {
    int64_t bytes = 0;
    for (size_t i = 0; i < items.size(); ++i) {
      bytes +=
          items[i].element_bytes * StoredNumbers(encoding, items[i].rows, items[i].cols, ranks[i]);
    }
    return bytes;
  }

  std::mt19937_64 generator_{static_cast<uint64_t>(GetParam())};
};

TEST_P(AllocationPropertyTest, StaysWithinTheBudgetAndFillsItFromBelow) {
  for (int round = 0; round < 20; ++round) {
    const std::vector<AllocationItem> items = Items();
    const std::vector<int64_t> dense(items.size(), 0);
    for (const Encoding encoding : {Encoding::kPlain, Encoding::kPivoted}) {
      const int64_t multiple = std::vector<int64_t>{1, 4, 16, 64}[static_cast<size_t>(Size(0, 3))];
      const RankRules rules{encoding, Uniform(0.2, 0.98), 0.05, multiple};
      if (LeastKeepRatio(items, rules) > rules.keep_ratio) continue;
      const auto budget = static_cast<int64_t>(
          rules.keep_ratio * static_cast<double>(Bytes(items, encoding, dense)) + 1e-6);
      const std::vector<int64_t> by_error = AllocateByError(items, rules);
      const std::vector<int64_t> d_rank = AllocateDRank(items, rules);
      for (const auto& ranks : {by_error, d_rank}) {
        ASSERT_EQ(ranks.size(), items.size());
        EXPECT_LE(Bytes(items, encoding, ranks), budget);
        for (size_t i = 0; i < ranks.size(); ++i) {
          const bool least = ranks[i] == LeastRank(items[i], rules);
          EXPECT_TRUE(ranks[i] % multiple == 0 || least) << ranks[i];
          if (ranks[i] > 0) {
            EXPECT_GE(ranks[i], LeastRank(items[i], rules));
          }
          EXPECT_LE(StoredNumbers(encoding, items[i].rows, items[i].cols, ranks[i]),
                    items[i].rows * items[i].cols);
        }
      }
      // Exactly from below: no matrix can be given its next rank.
      const int64_t left = budget - Bytes(items, encoding, by_error);
      for (size_t i = 0; i < items.size(); ++i) {
        if (by_error[i] == 0) continue;
        std::vector<int64_t> more = by_error;
        more[i] += multiple - more[i] % multiple;
        if (more[i] > std::min(items[i].rows, items[i].cols)) continue;
        EXPECT_GT(Bytes(items, encoding, more) - Bytes(items, encoding, by_error), left);
      }
    }
  }
}

TEST_P(AllocationPropertyTest, TheErrorNeverRisesWithTheBudget) {
  for (int round = 0; round < 10; ++round) {
    const std::vector<AllocationItem> items = Items();
    for (const Encoding encoding : {Encoding::kPlain, Encoding::kPivoted}) {
      double previous = INFINITY;
      for (double keep = 0.3; keep < 1.01; keep += 0.007) {
        const RankRules rules{encoding, std::min(keep, 1.0), 0.05, 1};
        const double error = AllocationError(items, AllocateByError(items, rules));
        EXPECT_LE(error, previous * (1 + 1e-12)) << keep;
        previous = error;
      }
      EXPECT_EQ(previous, 0) << "everything kept: dense, no loss";
    }
  }
}

TEST_P(AllocationPropertyTest, DeadAndRankDeficientMatricesTakeWhatIsLeft) {
  std::vector<AllocationItem> items = Items();
  items.push_back({64, 64, 2, "dead", std::vector<double>(64, 0.0)});
  items.push_back({64, 64, 2, "deficient", std::vector<double>(64, 0.0)});
  items.back().spectrum[0] = items.back().spectrum[1] = 1;
  for (const Encoding encoding : {Encoding::kPlain, Encoding::kPivoted}) {
    for (const int64_t rank : AllocateByError(items, {encoding, 1.0, 0.05, 1})) {
      EXPECT_EQ(rank, 0) << "everything kept: dense";
    }
    const std::vector<int64_t> dense(items.size(), 0);
    for (const double keep : {0.3, 0.9, 0.99}) {
      const RankRules rules{encoding, keep, 0.05, 1};
      const std::vector<int64_t> ranks = AllocateByError(items, rules);
      const auto budget =
          static_cast<int64_t>(keep * static_cast<double>(Bytes(items, encoding, dense)) + 1e-6);
      EXPECT_LE(Bytes(items, encoding, ranks), budget);
      // A rank of 64 × 64 takes at most 2 · 128 bytes: less than that may be left, or all is dense.
      if (*std::max_element(ranks.begin(), ranks.end()) > 0) {
        const auto dead = ranks[ranks.size() - 2];
        std::vector<int64_t> more = ranks;
        ++more[ranks.size() - 2];
        if (dead > 0 && dead < 63) {
          EXPECT_GT(Bytes(items, encoding, more), budget);
        }
      }
    }
  }
}

TEST_P(AllocationPropertyTest, BeatsUniformRanksInItsOwnMeasure) {
  const std::vector<AllocationItem> items = Items();
  for (const Encoding encoding : {Encoding::kPlain, Encoding::kPivoted}) {
    const RankRules rules{encoding, Uniform(0.4, 0.95), 0.05, 1};
    std::vector<int64_t> uniform;
    for (const AllocationItem& item : items) {
      uniform.push_back(UniformRank(rules, item.rows, item.cols));
    }
    EXPECT_LE(AllocationError(items, AllocateByError(items, rules)),
              AllocationError(items, uniform) * (1 + 1e-12));
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, AllocationPropertyTest, ::testing::Range(1, 11));

}  // namespace
}  // namespace svdllm
