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

// What the flags say about devices. flags.cc explains them.
struct DeviceSettings {
  std::vector<std::string> names = {"auto"};
  int64_t memory_limit = 0;  // bytes; where a CUDA device is named, of CUDA devices only; 0: none
  bool exact_products = false;
  // Jobs run where this process does, so that its machine's memory tells whether they fit.
  bool jobs_run_here = true;
};

struct DeviceInfo {
  std::string name;         // "cpu", "cuda:0"
  std::string description;  // for people
  int64_t memory_bytes = 0;
  int64_t memory_limit_bytes = 0;  // what jobs may use of it, at most memory_bytes
  // For the CPU only the model is known.
  std::string model{};
  std::string driver{};  // the version of CUDA that the driver is for
  std::string compute_capability{};
  std::string pci_bus_id{};
};

// Each function resolves the request and then does what its namesake in pipeline/pipeline.h does.
// Any thread may call the two plans; only the worker's one thread calls the two runs.
struct Engine {
  std::function<absl::StatusOr<CompressPlan>(const CompressSpec&)> plan_compress;
  std::function<absl::StatusOr<EvaluatePlan>(const EvaluateSpec&)> plan_evaluate;
  std::function<absl::StatusOr<CompressResult>(const CompressSpec&, ArtifactStore&,
                                               const RunHooks&)>
      run_compress;
  std::function<absl::StatusOr<EvaluateResult>(const EvaluateSpec&, ArtifactStore&,
                                               const RunHooks&)>
      run_evaluate;
  // Called before the first run, from the worker's thread. An error where the first device cannot
  // be used.
  std::function<absl::Status()> open_device;
  // Called after an attempt that failed, from the worker's thread. An error where the device does
  // not compute any more, and only a fresh process can help.
  std::function<absl::Status()> check_device;
  // What workers compute on, one device per worker. Where this process runs jobs, it does so on the
  // first.
  std::vector<DeviceInfo> devices;
  // Why a device that could have been used is not used, in words. Empty: there is nothing to say.
  std::string device_note;
};

// Returns the real engine. INVALID_ARGUMENT, naming the device that is not there.
absl::StatusOr<Engine> PipelineEngine(const DeviceSettings& settings);

}  // namespace svdllm
