#include <fmt/format.h>

#include "evaluate/verdict.h"
#include "pipeline/pipeline.h"

namespace svdllm {

absl::Status CheckVerdicts(const CompressResult& result) {
  const ArtifactResult* of = nullptr;
  const Comparison* worst = nullptr;
  int64_t rejected = 0;
  std::string uris;
  for (const ArtifactResult& artifact : result.artifacts) {
    if (!artifact.uri.empty()) uris += (uris.empty() ? "" : ", ") + artifact.uri;
    if (!artifact.rejected()) continue;
    ++rejected;
    const Comparison* const own = WorstOf(artifact.comparisons);
    if (own == nullptr || (worst != nullptr && !IsWorse(*own, *worst))) continue;
    of = &artifact;
    worst = own;
  }
  if (rejected == 0) return absl::OkStatus();
  const std::string what = worst == nullptr ? ""
                                            : fmt::format("keep ratio {:.4g}: {}; ", of->keep_ratio,
                                                          RegressionText(*worst));
  return MakeError(
      absl::StatusCode::kFailedPrecondition, kRegressed,
      fmt::format("{}{} of {} artifacts lose more than the threshold allows; {}", what, rejected,
                  result.artifacts.size(),
                  uris.empty() ? "nothing was published" : "published nevertheless: " + uris));
}

}  // namespace svdllm
