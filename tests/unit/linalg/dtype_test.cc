#include "linalg/dtype.h"

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

namespace svdllm {
namespace {

// The value of a half with the given widths, from the definition.
double DefinitionOf(uint16_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const double fraction = std::ldexp(bits & ((1 << mantissa_bits) - 1), -mantissa_bits);
  const double sign = (bits & 0x8000) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) {
    return fraction == 0 ? sign * std::numeric_limits<double>::infinity()
                         : std::numeric_limits<double>::quiet_NaN();
  }
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
  return sign * std::ldexp(1 + fraction, exponent - bias);
}

struct Half {
  DType dtype;
  int exponent_bits;
  int mantissa_bits;
  double ValueOf(uint16_t bits) const { return DefinitionOf(bits, exponent_bits, mantissa_bits); }
};
constexpr Half kHalves[] = {{DType::kF16, 5, 10}, {DType::kBF16, 8, 7}};

template <typename To, typename From>
std::vector<To> Convert(const std::vector<From>& from, DType from_dtype, DType to_dtype) {
  std::vector<To> to(from.size());
  ConvertElements(from.data(), from_dtype, to.data(), to_dtype, from.size());
  return to;
}

std::vector<uint16_t> AllHalves() {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  return all;
}

bool SameValue(double a, double b) {
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  return a == b && std::signbit(a) == std::signbit(b);
}

// The nearest half by search over the non-negative ones, ties to the even bit pattern. Overflow is
// where the next power of two would be nearer.
uint16_t NearestHalf(const Half& half, double value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  const double magnitude = std::fabs(value);
  const uint16_t infinity =
      static_cast<uint16_t>(((1 << half.exponent_bits) - 1) << half.mantissa_bits);
  uint16_t low = 0, high = infinity;  // value(low) <= magnitude < value(high) from here on
  if (std::isinf(magnitude)) return sign | infinity;
  while (high - low > 1) {
    const uint16_t middle = static_cast<uint16_t>((low + high) / 2);
    (half.ValueOf(middle) <= magnitude ? low : high) = middle;
  }
  const double below = half.ValueOf(low);
  const double above = high == infinity
                           ? std::ldexp(1.0, 1 << (half.exponent_bits - 1))  // where it would be
                           : half.ValueOf(high);
  const double to_below = magnitude - below, to_above = above - magnitude;
  const bool up = to_above < to_below || (to_above == to_below && (low & 1) != 0);
  return sign | (up ? high : low);
}

TEST(ConvertElements, EveryHalfToFloatAndDoubleIsExact) {
  const std::vector<uint16_t> all = AllHalves();
  for (const Half& half : kHalves) {
    const auto floats = Convert<float>(all, half.dtype, DType::kF32);
    const auto doubles = Convert<double>(all, half.dtype, DType::kF64);
    for (size_t i = 0; i < all.size(); ++i) {
      const double expected = half.ValueOf(all[i]);
      ASSERT_TRUE(SameValue(floats[i], expected)) << DTypeName(half.dtype) << " " << i;
      ASSERT_TRUE(SameValue(doubles[i], expected)) << DTypeName(half.dtype) << " " << i;
    }
  }
}

TEST(ConvertElements, EveryHalfComesBack) {
  const std::vector<uint16_t> all = AllHalves();
  for (const Half& half : kHalves) {
    const auto floats = Convert<float>(all, half.dtype, DType::kF32);
    const auto doubles = Convert<double>(all, half.dtype, DType::kF64);
    const auto from_floats = Convert<uint16_t>(floats, DType::kF32, half.dtype);
    const auto from_doubles = Convert<uint16_t>(doubles, DType::kF64, half.dtype);
    for (size_t i = 0; i < all.size(); ++i) {
      if (std::isnan(half.ValueOf(all[i]))) {
        ASSERT_TRUE(std::isnan(half.ValueOf(from_floats[i]))) << i;
        ASSERT_TRUE(std::isnan(half.ValueOf(from_doubles[i]))) << i;
      } else {
        ASSERT_EQ(from_floats[i], all[i]);
        ASSERT_EQ(from_doubles[i], all[i]);
      }
    }
  }
}

// Around every half and every midpoint of two: just below, on it, just above.
TEST(ConvertElements, RoundsToNearestEvenAroundEveryHalf) {
  for (const Half& half : kHalves) {
    std::vector<double> doubles;
    std::vector<float> floats;
    for (uint32_t bits = 0; bits < 65535; ++bits) {
      const double a = half.ValueOf(static_cast<uint16_t>(bits));
      const double b = half.ValueOf(static_cast<uint16_t>(bits + 1));
      if (!std::isfinite(a)) continue;
      const double midpoint = std::isfinite(b) ? a / 2 + b / 2 : a * (1 + std::ldexp(1, -12));
      for (const double center : {a, midpoint}) {
        // The float neighbours are in doubles too, and so are values that a float cannot tell apart
        // from the midpoint: rounded twice, those would go wrong.
        doubles.push_back(std::nextafter(center, -1e300));
        doubles.push_back(center);
        doubles.push_back(std::nextafter(center, 1e300));
        const float f = static_cast<float>(center);
        floats.push_back(std::nextafter(f, -3e38f));
        floats.push_back(f);
        floats.push_back(std::nextafter(f, 3e38f));
      }
    }
    const auto from_doubles = Convert<uint16_t>(doubles, DType::kF64, half.dtype);
    for (size_t i = 0; i < doubles.size(); ++i) {
      ASSERT_EQ(from_doubles[i], NearestHalf(half, doubles[i]))
          << DTypeName(half.dtype) << " of double " << doubles[i];
    }
    const auto from_floats = Convert<uint16_t>(floats, DType::kF32, half.dtype);
    for (size_t i = 0; i < floats.size(); ++i) {
      ASSERT_EQ(from_floats[i], NearestHalf(half, floats[i]))
          << DTypeName(half.dtype) << " of float " << floats[i];
    }
  }
}

TEST(ConvertElements, RandomBitPatterns) {
  std::mt19937_64 random(7);
  std::vector<float> floats(200000);
  std::vector<double> doubles(200000);
  for (float& f : floats) f = std::bit_cast<float>(static_cast<uint32_t>(random()));
  for (double& d : doubles) d = std::bit_cast<double>(random());
  for (const Half& half : kHalves) {
    const auto from_floats = Convert<uint16_t>(floats, DType::kF32, half.dtype);
    const auto from_doubles = Convert<uint16_t>(doubles, DType::kF64, half.dtype);
    for (size_t i = 0; i < floats.size(); ++i) {
      if (std::isnan(floats[i])) {
        ASSERT_TRUE(std::isnan(half.ValueOf(from_floats[i])));
      } else {
        ASSERT_EQ(from_floats[i], NearestHalf(half, floats[i])) << floats[i];
      }
      if (std::isnan(doubles[i])) {
        ASSERT_TRUE(std::isnan(half.ValueOf(from_doubles[i])));
      } else {
        ASSERT_EQ(from_doubles[i], NearestHalf(half, doubles[i])) << doubles[i];
      }
    }
  }
  const auto narrowed = Convert<float>(doubles, DType::kF64, DType::kF32);
  const auto widened = Convert<double>(floats, DType::kF32, DType::kF64);
  for (size_t i = 0; i < floats.size(); ++i) {
    ASSERT_TRUE(SameValue(narrowed[i], static_cast<float>(doubles[i])));
    ASSERT_TRUE(SameValue(widened[i], floats[i]));
  }
}

TEST(ConvertElements, OverflowBecomesInfinityAndNanStaysNan) {
  const std::vector<float> floats = {65519.9f,
                                     65520.0f,
                                     -1e30f,
                                     std::numeric_limits<float>::max(),
                                     std::numeric_limits<float>::infinity(),
                                     std::bit_cast<float>(0x7f800001u),   // would round to infinity
                                     std::bit_cast<float>(0xffffffffu)};  // would round to zero
  const auto f16 = Convert<uint16_t>(floats, DType::kF32, DType::kF16);
  EXPECT_EQ(f16[0], 0x7bff);
  EXPECT_EQ(f16[1], 0x7c00);
  EXPECT_EQ(f16[2], 0xfc00);
  EXPECT_EQ(f16[4], 0x7c00);
  const auto bf16 = Convert<uint16_t>(floats, DType::kF32, DType::kBF16);
  EXPECT_EQ(bf16[3], 0x7f80);
  EXPECT_EQ(bf16[4], 0x7f80);
  for (const size_t i : {5, 6}) {
    EXPECT_TRUE(std::isnan(DefinitionOf(f16[i], 5, 10)));
    EXPECT_TRUE(std::isnan(DefinitionOf(bf16[i], 8, 7)));
  }
}

TEST(ConvertElements, BetweenHalves) {
  const std::vector<uint16_t> all = AllHalves();
  const auto bf16 = Convert<uint16_t>(all, DType::kF16, DType::kBF16);
  const auto f16 = Convert<uint16_t>(all, DType::kBF16, DType::kF16);
  for (size_t i = 0; i < all.size(); ++i) {
    const double from_f16 = kHalves[0].ValueOf(all[i]);
    const double from_bf16 = kHalves[1].ValueOf(all[i]);
    if (!std::isnan(from_f16)) {
      ASSERT_EQ(bf16[i], NearestHalf(kHalves[1], from_f16));
    }
    if (!std::isnan(from_bf16)) {
      ASSERT_EQ(f16[i], NearestHalf(kHalves[0], from_bf16));
    }
  }
}

// Every length around the widths of vectors, buffers and tasks, at odd addresses, for every pair;
// bytes around the target stay.
TEST(ConvertElements, EveryPairLengthAndAlignment) {
  constexpr DType kTypes[] = {DType::kF64, DType::kF32, DType::kF16, DType::kBF16};
  for (const size_t count : {0, 1, 3, 7, 8, 9, 17, 511, 513, 1030, 65536, 65537, 200001}) {
    std::vector<double> values(count);
    for (size_t i = 0; i < count; ++i) values[i] = static_cast<double>(i % 251) - 125;  // exact
    for (const DType from : kTypes) {
      std::vector<char> source(count * SizeOf(from) + 1);
      ConvertElements(values.data(), DType::kF64, source.data() + 1, from, count);
      for (const DType to : kTypes) {
        std::vector<char> target(count * SizeOf(to) + 2, 'x');
        ConvertElements(source.data() + 1, from, target.data() + 1, to, count);
        std::vector<double> back(count);
        ConvertElements(target.data() + 1, to, back.data(), DType::kF64, count);
        ASSERT_EQ(back, values) << DTypeName(from) << " to " << DTypeName(to) << ", " << count;
        ASSERT_EQ(target.front(), 'x');
        ASSERT_EQ(target.back(), 'x');
      }
    }
  }
}

// Against copying as many bytes: never near it means that a loop no longer runs on vectors. One
// round of many is enough, since other tests share the machine.
TEST(ConvertElements, Bf16ToFloatRunsAtMemorySpeed) {
#if !defined(__OPTIMIZE__) || defined(SVDLLM_SANITIZED)
  GTEST_SKIP() << "not an optimised build";
#endif
  constexpr size_t kCount = size_t{1} << 24;
  const std::vector<uint16_t> halves(kCount, 0x3f80);
  std::vector<float> floats(kCount), copy(kCount);
  const auto seconds = [](auto&& body) {
    const auto begin = std::chrono::steady_clock::now();
    body();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  double best = 1e9;
  for (int round = 0; round < 30 && best > 2; ++round) {
    const double convert = seconds(
        [&] { ConvertElements(halves.data(), DType::kBF16, floats.data(), DType::kF32, kCount); });
    const double memory = seconds([&] { std::memcpy(copy.data(), floats.data(), kCount * 4); });
    best = std::min(best, convert / memory);
  }
  EXPECT_EQ(copy[kCount - 1], 1.0f);
  EXPECT_LT(best, 2);
}

}  // namespace
}  // namespace svdllm
