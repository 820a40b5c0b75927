// Binds the service to the pipeline.
#include <unistd.h>

#include <fstream>
#include <memory>
#include <thread>

#include "linalg/backend.h"
#include "pipeline/pipeline.h"
#include "server/operations.h"

namespace svdllm {
namespace {

std::string ProcessorName() {
  std::ifstream cpuinfo("/proc/cpuinfo");
  for (std::string line; std::getline(cpuinfo, line);) {
    const size_t colon = line.find(": ");
    if (line.compare(0, 10, "model name") == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown processor";
}

DeviceInfo CpuDevice() {
  return {"cpu",
          ProcessorName() + ", " + std::to_string(std::thread::hardware_concurrency()) + " threads",
          int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE)};
}

}  // namespace

absl::StatusOr<Operations> PipelineOperations(const std::string& devices) {
  if (devices != "auto" && devices != "cpu") {
    return absl::InvalidArgumentError("--devices=" + devices + ": this build knows auto and cpu");
  }
  // Made at the first run: a process that only serves the API needs no backend.
  auto backend = std::make_shared<std::unique_ptr<Backend>>();
  const auto get_backend = [backend]() -> Backend& {
    if (*backend == nullptr) *backend = NewCpuBackend();
    return **backend;
  };
  Operations operations;
  operations.plan_compress = PlanCompress;
  operations.check_evaluate = CheckEvaluate;
  operations.run_compress = [get_backend](const CompressSpec& spec, ArtifactStore& store,
                                          const RunHooks& hooks) {
    return RunCompress(spec, get_backend(), store, hooks);
  };
  operations.run_evaluate = [get_backend](const EvaluateSpec& spec, const RunHooks& hooks) {
    return RunEvaluate(spec, get_backend(), hooks);
  };
  operations.devices = {CpuDevice()};
  return operations;
}

}  // namespace svdllm
