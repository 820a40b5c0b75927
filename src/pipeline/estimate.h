// What a job costs before it is run: floating-point operations, from shapes alone.
#pragma once

#include "job/spec.h"
#include "model/cost.h"
#include "pipeline/resolve.h"

namespace svdllm {

// The work of a whole compression, with perplexity over `windows` before and after it.
double CompressFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                     const Workload& calibration, const Workload& windows);

// The work of a job with everything that it measures. Where only the texts decide how much that is,
// it is a guess.
double ExpectedFlops(const CompressJob& job);

// How fast this machine's processor multiplies in single precision, in FLOP/s. It is measured once
// per process and takes milliseconds. Thread-safe.
double MeasuredRate();

}  // namespace svdllm
