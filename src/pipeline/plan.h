// Checks of a request against its model, and what it would cost: used by PlanCompress and as the
// opening of RunCompress.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/linears.h"
#include "compress/rank_rules.h"
#include "evaluate/resolve.h"
#include "job/spec.h"

namespace svdllm {

// The spec with every 0 that means "default" filled in, or what is wrong with it.
absl::StatusOr<CompressSpec> ResolveCompress(const CompressSpec& spec,
                                             const Checkpoint& checkpoint);

// spec: resolved.
CompressPlan MakePlan(const CompressSpec& spec, const Checkpoint& checkpoint);

}  // namespace svdllm
