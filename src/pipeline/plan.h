// What a compression would do and cost, from shapes alone.
#pragma once

#include "job/plan.h"
#include "pipeline/resolve.h"

namespace svdllm {

// Room for reports, index, configuration and tokenizer beside an artifact's weights.
inline constexpr int64_t kArtifactSideBytes = int64_t{64} << 20;

// Makes the plan without its memory, which memory_plan.h counts.
absl::StatusOr<CompressPlan> MakePlan(const CompressJob& job);

}  // namespace svdllm
