// How much of a backend's memory a job takes, and how a compression is laid out to fit. Both are
// found out by running the job, layers, batches and all, on a backend that only counts.
#pragma once

#include "compress/context.h"
#include "job/plan.h"
#include "linalg/counting/backend.h"
#include "pipeline/resolve.h"

namespace svdllm {

struct MemoryPlan {
  Placement placement;
  int64_t peak_bytes = 0;    // of the backend's memory
  int64_t stream_bytes = 0;  // of the residual streams, wherever they lie
  HostMemory host;
};

// Returns the peak of one placement. An allocation that needs spectra is taken to give the uniform
// ranks.
absl::StatusOr<int64_t> CountPeak(const CompressJob& job, const Placement& placement,
                                  const CountingOptions& options);

// Returns the fastest placement that fits the device's memory and the host's. Where none does, it
// is RESOURCE_EXHAUSTED with DEVICE_OUT_OF_MEMORY (or HOST_OUT_OF_MEMORY), and the message says how
// much the least demanding one takes.
absl::StatusOr<MemoryPlan> PlanMemory(const CompressJob& job, const DeviceBudget& budget);

// Returns the larger peak of an evaluation's model and baseline, with the same errors. There is
// nothing to place.
absl::StatusOr<MemoryPlan> PlanMemory(const EvaluateJob& job, const DeviceBudget& budget);

// Says in words that memory is tight: where the files' pages do not fit beside what must fit, or
// little is left. Returns nothing where there is plenty, or nobody looked.
std::vector<std::string> MemoryWarnings(const HostMemory& host);

}  // namespace svdllm
