// Rotary frequencies against the published formulas, worked out by hand.
#include "model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace svdllm {
namespace {

RopeConfig Config(RopeKind kind) {
  RopeConfig rope;
  rope.dim = 8;
  rope.original_max_position_embeddings = 100;
  rope.kind = kind;
  rope.theta = 10000;
  rope.factor = 4;
  return rope;
}

TEST(RopeTest, DefaultAndLinear) {
  const std::vector<double> plain = InverseFrequencies(Config(RopeKind::kDefault), 50),
                            linear = InverseFrequencies(Config(RopeKind::kLinear), 50);
  for (int i = 0; i < 4; ++i) {
    EXPECT_DOUBLE_EQ(plain[static_cast<size_t>(i)], std::pow(10000.0, -i / 4.0));
    EXPECT_DOUBLE_EQ(linear[static_cast<size_t>(i)], std::pow(10000.0, -i / 4.0) / 4);
  }
}

TEST(RopeTest, DynamicChangesOnlyLongTexts) {
  const RopeConfig config = Config(RopeKind::kDynamic);
  EXPECT_EQ(InverseFrequencies(config, 100), InverseFrequencies(Config(RopeKind::kDefault), 100));
  const double theta = 10000 * std::pow(4.0 * 200 / 100 - 3, 8.0 / 6);
  const std::vector<double> longer = InverseFrequencies(config, 200);
  for (int i = 0; i < 4; ++i) {
    EXPECT_NEAR(longer[static_cast<size_t>(i)], std::pow(theta, -i / 4.0), 1e-15);
  }
  EXPECT_FALSE(RopeCache::SameTable(config, 100, 101));
  EXPECT_TRUE(RopeCache::SameTable(config, 1, 100));
}

TEST(RopeTest, Llama3KeepsShortWavesAndStretchesLongOnes) {
  RopeConfig config = Config(RopeKind::kLlama3);
  config.theta = 500000;
  config.factor = 8;
  config.low_freq_factor = 1;
  config.high_freq_factor = 4;
  config.original_max_position_embeddings = 8192;
  config.dim = 128;
  const std::vector<double> got = InverseFrequencies(config, 10);
  for (size_t i = 0; i < got.size(); ++i) {
    const double f = std::pow(500000.0, -static_cast<double>(i) / 64);
    const double wavelength = 2 * std::numbers::pi / f;
    if (wavelength < 8192.0 / 4) {
      EXPECT_DOUBLE_EQ(got[i], f);
    } else if (wavelength > 8192) {
      EXPECT_DOUBLE_EQ(got[i], f / 8);
    } else {
      EXPECT_LT(got[i], f);
      EXPECT_GT(got[i], f / 8);
    }
  }
}

TEST(RopeTest, TablesGrowAndHoldAngles) {
  const auto backend = NewCpuBackend(1);
  RopeCache cache;
  const RopeConfig config = Config(RopeKind::kDefault);
  EXPECT_EQ((*cache.Get(config, 10, *backend))->cosines.rows(), 10);
  const RopeTable* table = *cache.Get(config, 30, *backend);
  EXPECT_EQ(table->cosines.rows(), 30);
  EXPECT_EQ(*cache.Get(config, 20, *backend), table) << "a longer table serves";
  EXPECT_NEAR(table->cosines.ref().row<float>(7)[1], std::cos(7 * 0.1), 1e-6);
  EXPECT_NEAR(table->sines.ref().row<float>(29)[0], std::sin(29.0), 1e-6);
}

TEST(RopeTest, LongRopeDividesByLength) {
  RopeConfig config = Config(RopeKind::kLongRope);
  config.short_factor = {1, 1.5, 2, 3};
  config.long_factor = {1, 4, 9, 16};
  const std::vector<double> usual = InverseFrequencies(config, 100),
                            longer = InverseFrequencies(config, 101);
  for (size_t i = 0; i < 4; ++i) {
    const double f = std::pow(10000.0, -static_cast<double>(i) / 4);
    EXPECT_DOUBLE_EQ(usual[i], f / config.short_factor[i]);
    EXPECT_DOUBLE_EQ(longer[i], f / config.long_factor[i]);
  }
  EXPECT_TRUE(RopeCache::SameTable(config, 101, 5000));
  EXPECT_FALSE(RopeCache::SameTable(config, 100, 101));

  config.attention_factor = 1.25;
  const auto backend = NewCpuBackend(1);
  RopeCache cache;
  const auto table = cache.Get(config, 3, *backend);
  ASSERT_TRUE(table.ok());
  std::vector<double> cosines(12);
  ASSERT_TRUE(backend->Download((*table)->cosines, cosines.data(), DType::kF64).ok());
  EXPECT_NEAR(cosines[0], 1.25, 1e-6);
  EXPECT_NEAR(cosines[8], 1.25 * std::cos(2.0), 1e-6);
}

}  // namespace
}  // namespace svdllm
