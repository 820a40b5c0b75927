#include "base/format.h"

#include <gtest/gtest.h>

#include <limits>

namespace svdllm {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

TEST(FormatTest, NumbersAndRates) {
  EXPECT_EQ(Number(17.324), "17.32");
  EXPECT_EQ(Number(136000, 3), "1.36e+05");
  EXPECT_EQ(Number(kInfinity), "–");
  EXPECT_EQ(Rate(0.1234), "0.123");
  EXPECT_EQ(Rate(999.4), "999");
  EXPECT_EQ(Rate(999.6), "1000");
  EXPECT_EQ(Rate(123456.7), "123457");
  EXPECT_EQ(Rate(kInfinity), "–");
  EXPECT_EQ(Change(200, 168), "-16.0 %");
  EXPECT_EQ(Change(0, 168), "–");
}

TEST(FormatTest, SpeedIsComparedWhereTheRoundsAgree) {
  EXPECT_EQ(Rate(RateSpread{247, 55.6, 2006}), "247 (55.6 to 2006)");
  EXPECT_EQ(SpeedRatio({100, 98, 103}, {120, 118, 125}, 3), "× 1.2");
  EXPECT_EQ(SpeedRatio({100, 98, 119}, {120, 118, 125}, 3), "alike: × 0.992 to × 1.28");
  EXPECT_EQ(SpeedRatio({247, 55.6, 2006}, {8990, 40, 10129}, 3), "unsteady: × 0.0199 to × 182");
  // Apart from each other, and yet nobody knows by how much.
  EXPECT_EQ(SpeedRatio({100, 90, 110}, {300, 150, 600}, 3), "unsteady: × 1.36 to × 6.67");
  EXPECT_EQ(SpeedRatio({100, 100, 100}, {120, 120, 120}, 1), "× 1.2, of one round");
  EXPECT_EQ(SpeedRatio({100, 0, 0}, {120, 118, 125}, 3), "–");
}

TEST(FormatTest, NowIsATime) {
  EXPECT_EQ(UtcNow().size(), 20u);
  EXPECT_EQ(UtcNow().substr(0, 2), "20");
  EXPECT_EQ(UtcNow().back(), 'Z');
}

TEST(FormatTest, Counts) {
  EXPECT_EQ(Count(134'515'008), "134.5 M");
  EXPECT_EQ(Count(6'738'415'616), "6.74 G");
  EXPECT_EQ(Count(5'000'000'000'000), "5000.0 G");
  EXPECT_EQ(Grouped(0), "0");
  EXPECT_EQ(Grouped(999), "999");
  EXPECT_EQ(Grouped(1000), "1,000");
  EXPECT_EQ(Grouped(134515008), "134,515,008");
  EXPECT_EQ(Grouped(-123456), "-123,456");
}

TEST(FormatTest, Bytes) {
  EXPECT_EQ(Bytes(999), "999 B");
  EXPECT_EQ(Bytes(1000), "1.00 kB");
  EXPECT_EQ(Bytes(999'960), "1.00 MB");
  EXPECT_EQ(Bytes(269'030'016), "269.0 MB");
  EXPECT_EQ(Bytes(1'400'000'000), "1.40 GB");
  EXPECT_EQ(GiB(5 * (int64_t{1} << 28)), "1.25 GiB");
}

TEST(FormatTest, Times) {
  EXPECT_EQ(Seconds(8.5), "8.50 s");
  EXPECT_EQ(Seconds(59.71), "59.7 s");
  EXPECT_EQ(Seconds(187), "3 min 07 s");
  EXPECT_EQ(Seconds(7500), "2 h 05 min");
  EXPECT_EQ(Duration(-1), "0s");
  EXPECT_EQ(Duration(0.84), "0.8s");
  EXPECT_EQ(Duration(9.97), "10s");
  EXPECT_EQ(Duration(59.7), "1m00s");
  EXPECT_EQ(Duration(3725), "1h02m");
  EXPECT_EQ(Duration(90000), "1d01h");
}

}  // namespace
}  // namespace svdllm
