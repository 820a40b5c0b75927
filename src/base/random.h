// Random numbers that are the same on every platform. Those of the standard's distributions are
// not.
#pragma once

#include <cstdint>

namespace svdllm {

// SplitMix64. Not thread-safe.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  // Returns a number in [0, bound), every value as likely. bound > 0.
  uint64_t Below(uint64_t bound) {
    const uint64_t limit = bound * (UINT64_MAX / bound);
    uint64_t value;
    do value = Next();
    while (value >= limit);
    return value % bound;
  }
  // Returns a number in [0, 1).
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

 private:
  uint64_t state_;
};

}  // namespace svdllm
