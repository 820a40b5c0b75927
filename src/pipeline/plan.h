// What a compression would do and cost, from shapes alone.
#pragma once

#include "job/plan.h"
#include "pipeline/resolve.h"

namespace svdllm {

// Makes the plan without its memory, which memory_plan.h counts.
absl::StatusOr<CompressPlan> MakePlan(const CompressJob& job);

}  // namespace svdllm
