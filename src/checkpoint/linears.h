// The linear layers of a model as a list: what a compression works on.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace svdllm {

// y = W x with W [rows, cols], somewhere in the model.
struct LinearLayer {
  int64_t layer = 0;           // the decoder layer that it is in
  LinearId id = LinearId::kQ;  // what it is there
  int64_t expert = -1;         // its expert in a mixture; -1: the layer has no experts
  Site site = Site::kAttnIn;   // the activation that it reads
  std::string name;            // "model.layers.0.self_attn.q_proj"
  std::string group;           // "q_proj": what an allocation compares
  int64_t rows = 0, cols = 0;
};

// Every linear of every layer, in the order in which the forward pass reaches them: those of a
// layer lie side by side. With 30 layers of 7, linears[17] is the fourth of layer 2.
std::vector<LinearLayer> LinearLayers(const Checkpoint& checkpoint);

// Returns the places in the list of one decoder layer's linears. With 7 per layer, those of layer 2
// are 14 to 20.
std::vector<size_t> LinearsOf(const std::vector<LinearLayer>& linears, int64_t layer);

}  // namespace svdllm
