#include "compress/context.h"

#include <fmt/format.h>

namespace svdllm {

std::vector<std::vector<size_t>> DecompositionGroups(const CompressRun& run, int64_t layer) {
  std::vector<size_t> all = LinearsOf(run.linears, layer);
  if (!run.placement.one_matrix) return {std::move(all)};
  std::vector<std::vector<size_t>> groups;
  for (const size_t i : all) groups.push_back({i});
  return groups;
}

std::string RatioName(double keep_ratio) { return fmt::format("{}", keep_ratio); }

absl::Status LayerError(const absl::Status& status, int64_t layer) {
  return Annotate(status, "factorise: layer " + std::to_string(layer));
}

}  // namespace svdllm
