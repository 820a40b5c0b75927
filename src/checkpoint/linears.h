// The linear layers of a model, in order: what a compression works on.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace svdllm {

// A linear layer in scope.
struct Target {
  int64_t layer = 0;
  LinearId id = LinearId::kQ;
  std::string name;   // "model.layers.0.self_attn.q_proj"
  std::string group;  // "q_proj": what an allocation compares
  int64_t rows = 0, cols = 0;
};

// Every linear of every layer, in the order in which the forward pass reaches them.
std::vector<Target> Targets(const Checkpoint& checkpoint);

}  // namespace svdllm
