// How much of a backend's memory a job takes, and how a compression is laid out to fit: found out
// by running it, layers, batches and all, on a backend that only counts.
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

// The peak of one placement. Ranks of an allocation that needs spectra are taken to be the uniform
// ones.
absl::StatusOr<int64_t> CountPeak(const CompressJob& job, const Placement& placement,
                                  const CountingOptions& options);

// The fastest placement that fits. RESOURCE_EXHAUSTED with DEVICE_OUT_OF_MEMORY (or
// HOST_OUT_OF_MEMORY), saying how much the least demanding one takes, where none does.
absl::StatusOr<MemoryPlan> PlanMemory(const CompressJob& job, const DeviceBudget& budget);

// The peak of an evaluation, of its model or of its baseline. The same errors.
absl::StatusOr<int64_t> PlanMemory(const EvaluateJob& job, const DeviceBudget& budget);

// Of a job's process, beside what its backend counts.
int64_t HostBytes(int64_t weight_bytes, bool on_device);

}  // namespace svdllm
