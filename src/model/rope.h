// Rotary position tables.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "checkpoint/config.h"
#include "linalg/backend.h"

namespace svdllm {

// cos and sin of position · inverse frequency, times the attention factor: both F32
// [positions, dim/2].
struct RopeTable {
  Matrix cosines, sines;
};

// The inverse frequencies of a sequence of the given length, dim/2 of them (RopeConfig has the
// formulas). Only the dynamic and longrope kinds depend on the length.
std::vector<double> InverseFrequencies(const RopeConfig& rope, int64_t length);

// Tables of one RopeConfig by need, kept. Not thread-safe; must not outlive the backend.
class RopeCache {
 public:
  // For one or several sequences of this length, or of another that has the same table.
  absl::StatusOr<const RopeTable*> Get(const RopeConfig& rope, int64_t length, Backend& backend);
  // Whether sequences of both lengths are turned by the same frequencies.
  static bool SameTable(const RopeConfig& rope, int64_t a, int64_t b);

 private:
  std::map<int64_t, RopeTable> tables_;  // by what SameTable compares
};

// SameTable in every layer of a model; true where positions are not rotary.
bool SameFrequencies(const ModelConfig& config, int64_t a, int64_t b);

}  // namespace svdllm
