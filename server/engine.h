// What the service needs of the pipeline, as values: tests put a fake in its place.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "job/plan.h"
#include "job/progress.h"
#include "job/result.h"
#include "job/spec.h"
#include "storage/artifact_store.h"

namespace svdllm {

// What the flags say of devices; their meaning is in flags.cc.
struct DeviceSettings {
  std::vector<std::string> names = {"auto"};
  int64_t memory_limit = 0;  // bytes, of CUDA devices alone where one is named; 0: none
  bool exact_products = false;
};

struct DeviceInfo {
  std::string name;         // "cpu", "cuda:0"
  std::string description;  // for people
  int64_t memory_bytes = 0;
  int64_t memory_limit_bytes = 0;  // what jobs may use of it, at most memory_bytes
  // Empty for the CPU, but for its model:
  std::string model{};
  std::string driver{};  // the version of CUDA that it is for
  std::string compute_capability{};
  std::string pci_bus_id{};
};

// Each resolves the request and then does what its namesake in pipeline/pipeline.h does. The two
// plans may be called from any thread; the two runs only from the worker's one thread.
struct Engine {
  std::function<absl::StatusOr<CompressPlan>(const CompressSpec&)> plan_compress;
  std::function<absl::StatusOr<EvaluatePlan>(const EvaluateSpec&)> plan_evaluate;
  std::function<absl::StatusOr<CompressResult>(const CompressSpec&, ArtifactStore&,
                                               const RunHooks&)>
      run_compress;
  std::function<absl::StatusOr<EvaluateResult>(const EvaluateSpec&, ArtifactStore&,
                                               const RunHooks&)>
      run_evaluate;
  // Before the first run, from the worker's thread: an error where the first device cannot be used.
  std::function<absl::Status()> open_device;
  // After an attempt that failed, from the worker's thread: an error where the device does not
  // compute any more, and only a fresh process can help.
  std::function<absl::Status()> check_device;
  // What workers compute on, one each; this process's runs, should there be any, on the first.
  std::vector<DeviceInfo> devices;
  // Why a device that could have been used is not, in words; empty: there is nothing to say.
  std::string device_note;
};

// The real ones. INVALID_ARGUMENT names the device that is not there.
absl::StatusOr<Engine> PipelineEngine(const DeviceSettings& settings);

}  // namespace svdllm
