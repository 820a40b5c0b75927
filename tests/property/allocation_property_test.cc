// What every allocation promises, on random models.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "lowrank/rank_plan.h"

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
      const int64_t multiple = Size(0, 1) == 0 ? 1 : 4;
      // A floor of at least what a rank of `multiple` takes of the smallest matrix.
      const RankRules rules{encoding, Uniform(0.65, 0.95), 0.05, multiple};
      const auto budget = static_cast<int64_t>(
          rules.keep_ratio * static_cast<double>(Bytes(items, encoding, dense)) + 1e-6);
      const std::vector<int64_t> by_error = AllocateByError(items, rules);
      const std::vector<int64_t> d_rank = AllocateDRank(items, rules);
      for (const auto& ranks : {by_error, d_rank}) {
        ASSERT_EQ(ranks.size(), items.size());
        EXPECT_LE(Bytes(items, encoding, ranks), budget);
        for (size_t i = 0; i < ranks.size(); ++i) {
          EXPECT_EQ(ranks[i] % multiple, 0);
          EXPECT_LE(StoredNumbers(encoding, items[i].rows, items[i].cols, ranks[i]),
                    items[i].rows * items[i].cols);
        }
      }
      // Exactly from below: no matrix can be given its next rank.
      const int64_t left = budget - Bytes(items, encoding, by_error);
      for (size_t i = 0; i < items.size(); ++i) {
        if (by_error[i] == 0 || items[i].weight == 0) continue;
        std::vector<int64_t> more = by_error;
        more[i] += multiple;
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
