#include "checkpoint/linears.h"

namespace svdllm {

std::vector<Target> Targets(const Checkpoint& checkpoint) {
  std::vector<Target> targets;
  for (int64_t layer = 0; layer < checkpoint.config().num_layers; ++layer) {
    for (const LinearRow& row : checkpoint.arch().linears) {
      const LinearShape shape = ShapeOf(checkpoint.config(), row.id);
      const std::string module(row.module);
      targets.push_back({layer, row.id, ModulePath(checkpoint.arch(), layer, row.id),
                         module.substr(module.rfind('.') + 1), shape.rows, shape.cols});
    }
  }
  return targets;
}

}  // namespace svdllm
