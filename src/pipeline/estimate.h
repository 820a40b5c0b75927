// What a job costs before it is run: floating-point operations, from shapes alone, and the time
// that they take.
#pragma once

#include <span>

#include "job/plan.h"
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

// How fast this machine's processor multiplies in single precision, in FLOP/s.
struct ProcessorRate {
  double best = 0;  // of the fastest product since the process began: what an idle machine has
  double now = 0;   // of the latest ones: less where others compute
};

// Measures where the latest measurement is older than a few seconds: some milliseconds of
// computing. Thread-safe.
ProcessorRate MeasureRate();

// Fills in how long the plan's work takes at such a rate.
void EstimateTime(const ProcessorRate& rate, CompressPlan& plan);

// Corrects it by what jobs like it took. Those nearest in work count; where none is near, the plan
// stays as it is.
void CorrectTime(std::span<const FinishedWork> finished, CompressPlan& plan);

}  // namespace svdllm
