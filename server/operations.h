// What the service needs of the pipeline, as values: tests put a fake in its place.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "pipeline/job_spec.h"
#include "storage/artifact_store.h"

namespace svdllm {

struct DeviceInfo {
  std::string name;
  std::string description;
  int64_t memory_bytes = 0;
};

// Contracts as in pipeline/pipeline.h. The two checks may be called from any thread; the two runs
// only from the worker's one thread.
struct Operations {
  std::function<absl::StatusOr<CompressPlan>(const CompressSpec&)> plan_compress;
  std::function<absl::Status(const EvaluateSpec&)> check_evaluate;
  std::function<absl::StatusOr<CompressResult>(const CompressSpec&, ArtifactStore&,
                                               const RunHooks&)>
      run_compress;
  std::function<absl::StatusOr<EvaluateResult>(const EvaluateSpec&, ArtifactStore&,
                                               const RunHooks&)>
      run_evaluate;
  std::vector<DeviceInfo> devices;  // what workers compute on
  // Why a device that could have been used is not, in words; empty: there is nothing to say.
  std::string device_note;
};

// The real ones. devices: "auto" (the CPU), "cpu" or "cuda:N"; INVALID_ARGUMENT names what is not
// there.
absl::StatusOr<Operations> PipelineOperations(const std::string& devices);

}  // namespace svdllm
