// What a job costs before it is run: floating-point operations, from shapes alone.
#pragma once

#include "job/spec.h"
#include "model/cost.h"
#include "pipeline/resolve.h"

namespace svdllm {

// A whole compression, with perplexity before and after over the windows.
double CompressFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                     const Workload& calibration, const Workload& windows);

// The same with everything that is measured, guessed where only the texts decide how much that is.
double ExpectedFlops(const CompressJob& job);

// Single-precision products on this machine's processor, FLOP/s; measured once per process, in
// milliseconds. Thread-safe.
double MeasuredRate();

}  // namespace svdllm
