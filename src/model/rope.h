// Rotary position tables.
#pragma once

#include <cstdint>
#include <map>

#include "linalg/backend.h"
#include "model/config.h"

namespace svdllm {

// cos and sin of position · inverse frequency, both F32 [positions, head_dim/2].
struct RopeTable {
  Matrix cosines, sines;
};

// The inverse frequencies of a sequence of the given length, head_dim/2 of them (RopeConfig has the
// formulas). Only the dynamic kind depends on the length.
std::vector<double> InverseFrequencies(const ModelConfig& config, int64_t length);

// Tables by need, kept. Not thread-safe; must not outlive the backend.
class RopeCache {
 public:
  // For one or several sequences of at most this length; where depends_on_length is true, for
  // sequences of exactly this length.
  absl::StatusOr<const RopeTable*> Get(const ModelConfig& config, int64_t length, Backend& backend);
  // True where sequences of different lengths need tables of their own.
  static bool DependsOnLength(const ModelConfig& config, int64_t length);

 private:
  std::map<int64_t, RopeTable> tables_;  // by length; 0: the one that does not depend on it
};

}  // namespace svdllm
