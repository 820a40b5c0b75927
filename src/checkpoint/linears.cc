#include "checkpoint/linears.h"

#include <algorithm>
#include <numeric>

namespace svdllm {

std::vector<LinearLayer> LinearLayers(const Checkpoint& checkpoint) {
  std::vector<LinearLayer> linears;
  for (int64_t layer = 0; layer < checkpoint.config().num_layers; ++layer) {
    for (const LinearRow& row : checkpoint.arch().linears) {
      const LinearShape shape = ShapeOf(checkpoint.config(), row.id);
      LinearLayer& linear = linears.emplace_back();
      linear.layer = layer;
      linear.id = row.id;
      linear.site = row.input;
      linear.name = ModulePath(checkpoint.arch(), layer, row.id);
      linear.group = row.module.substr(row.module.rfind('.') + 1);
      linear.rows = shape.rows;
      linear.cols = shape.cols;
    }
  }
  return linears;
}

std::vector<size_t> LinearsOf(const std::vector<LinearLayer>& linears, int64_t layer) {
  const auto in_front = [](const LinearLayer& linear, int64_t number) {
    return linear.layer < number;
  };
  const auto begin = std::lower_bound(linears.begin(), linears.end(), layer, in_front);
  const auto end = std::lower_bound(begin, linears.end(), layer + 1, in_front);
  std::vector<size_t> found(static_cast<size_t>(end - begin));
  std::iota(found.begin(), found.end(), static_cast<size_t>(begin - linears.begin()));
  return found;
}

}  // namespace svdllm
