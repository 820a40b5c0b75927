// What a job costs before it is run: floating-point operations and memory, from shapes alone.
#pragma once

#include "job/spec.h"
#include "model/cost.h"

namespace svdllm {

// A whole compression, with perplexity before and after over the windows.
double CompressFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                     const Workload& calibration, const Workload& windows);

}  // namespace svdllm
