// Rotary position tables.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "checkpoint/config.h"
#include "linalg/backend.h"

namespace svdllm {

// The cosines and sines of position · inverse frequency, times the attention factor. Both are F32
// [positions, dim/2]: row 7, column 3 is about position 7 and the frequency with index 3.
struct RopeTable {
  Matrix cosines, sines;
};

// Returns the dim/2 inverse frequencies of a sequence of the given length (RopeConfig has the
// formulas). Only the dynamic and longrope kinds depend on the length.
std::vector<double> InverseFrequencies(const RopeConfig& rope, int64_t length);

// Makes the tables of one RopeConfig when they are asked for, and keeps them. Not thread-safe. It
// must not outlive the backend.
class RopeCache {
 public:
  // Returns the table for sequences of this length, or of another length that has the same table.
  absl::StatusOr<const RopeTable*> Get(const RopeConfig& rope, int64_t length, Backend& backend);
  // Whether sequences of both lengths are turned by the same frequencies.
  static bool SameTable(const RopeConfig& rope, int64_t a, int64_t b);

 private:
  std::map<int64_t, RopeTable> tables_;  // the key is what SameTable compares
};

// Whether SameTable holds in every layer of a model. True where positions are not rotary.
bool SameFrequencies(const ModelConfig& config, int64_t a, int64_t b);

}  // namespace svdllm
