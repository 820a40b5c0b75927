// The tensors that a model computes with, as its configuration says: what a checkpoint must hold.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "checkpoint/architecture.h"
#include "checkpoint/config.h"

namespace svdllm {

// Rows [first_row, first_row + rows) of a stored tensor.
struct TensorPart {
  std::string tensor;
  int64_t first_row = 0, rows = 0;
};

struct NeededTensor {
  std::string name;
  std::vector<int64_t> shape;
  bool is_order = false;  // indices, a permutation; everything else is numbers
};

struct TensorNeeds {
  std::vector<NeededTensor> tensors;
  std::map<std::string, TensorPart> parts;  // by the name that a part has by itself
};
TensorNeeds NeedsOf(const ModelConfig& config, const Architecture& arch);

}  // namespace svdllm
