#include "compress/context.h"

namespace svdllm {

absl::Status LayerDone(const CompressContext& context, int64_t layer) {
  context.log.LayerDone();
  return context.log.Step(0, "",
                          "layer " + std::to_string(layer + 1) + "/" +
                              std::to_string(context.checkpoint.config().num_layers) + " done");
}

std::vector<std::vector<size_t>> DecompositionGroups(const CompressContext& context) {
  std::vector<std::vector<size_t>> groups(1);
  for (size_t i = 0; i < context.checkpoint.arch().linears.size(); ++i) {
    if (context.placement.one_matrix && i > 0) groups.emplace_back();
    groups.back().push_back(i);
  }
  return groups;
}

absl::Status LayerError(const absl::Status& status, int64_t layer) {
  return Annotate(status, "factorise: layer " + std::to_string(layer));
}

}  // namespace svdllm
