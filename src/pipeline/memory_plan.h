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
};

// Returns the peak of one placement. An allocation that needs spectra is taken to give the uniform
// ranks.
absl::StatusOr<int64_t> CountPeak(const CompressJob& job, const Placement& placement,
                                  const CountingOptions& options);

// Returns the fastest placement that fits. Where none does, it is RESOURCE_EXHAUSTED with
// DEVICE_OUT_OF_MEMORY (or HOST_OUT_OF_MEMORY), and the message says how much the least demanding
// one takes.
absl::StatusOr<MemoryPlan> PlanMemory(const CompressJob& job, const DeviceBudget& budget);

// Returns the larger peak of an evaluation's model and baseline, with the same errors.
absl::StatusOr<int64_t> PlanMemory(const EvaluateJob& job, const DeviceBudget& budget);

// The bytes that a job's process takes beside what its backend counts.
int64_t HostBytes(int64_t weight_bytes, bool on_device);

}  // namespace svdllm
