// Binds the service to the pipeline.
#include <unistd.h>

#include <charconv>
#include <fstream>
#include <memory>
#include <string_view>
#include <thread>

#include "linalg/backend.h"
#include "linalg/cuda_backend_loader.h"
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

std::string CudaName(int device) { return "cuda:" + std::to_string(device); }

DeviceInfo Describe(int device, const CudaDeviceInfo& info) {
  return {CudaName(device),
          info.name + ", compute capability " + info.capability + ", driver " + info.driver,
          info.memory_bytes};
}

constexpr int kCpu = -1;

absl::Status Invalid(const std::string& devices, const std::string& why) {
  return absl::InvalidArgumentError("--devices=" + devices + ": " + why);
}

// The number of a CUDA device, or kCpu; what it is and, where "auto" takes none, why goes into
// operations.
absl::StatusOr<int> Choose(const std::string& devices, Operations& operations) {
  int chosen = 0;
  const bool any = devices == "auto";
  if (devices == "cpu") {
    operations.devices = {CpuDevice()};
    return kCpu;
  }
  if (!any) {
    const std::string_view prefix = "cuda:";
    const std::string_view text = devices;
    const char* const end = text.data() + text.size();
    const bool named = text.starts_with(prefix) && text.size() > prefix.size();
    const auto parsed = named ? std::from_chars(text.data() + prefix.size(), end, chosen)
                              : std::from_chars_result{};
    if (!named || parsed.ec != std::errc() || parsed.ptr != end || chosen < 0) {
      return Invalid(devices, "none of auto, cpu, cuda:N");
    }
  }
  const auto found = CudaDevices();
  if (!any && found.ok() && static_cast<size_t>(chosen) < found->size()) {
    operations.devices = {Describe(chosen, (*found)[static_cast<size_t>(chosen)])};
    return chosen;
  }
  if (!any) {
    return Invalid(devices,
                   found.ok() ? "there are only " + std::to_string(found->size()) + " such devices"
                              : std::string(found.status().message()));
  }
  operations.devices = {CpuDevice()};
  // The CUDA backend has not run on a device yet: scripts/gpu_check first, then this chooses it.
  operations.device_note = found.ok() ? "it has to be asked for: --devices=cuda:0"
                                      : std::string(found.status().message());
  return kCpu;
}

}  // namespace

absl::StatusOr<Operations> PipelineOperations(const std::string& devices) {
  Operations operations;
  ASSIGN_OR_RETURN(const int device, Choose(devices, operations));
  // Made at the first run: a process that only serves the API needs no backend.
  auto backend = std::make_shared<std::unique_ptr<Backend>>();
  const auto get_backend = [backend, device]() -> absl::StatusOr<Backend*> {
    if (*backend == nullptr && device == kCpu) *backend = NewCpuBackend();
    if (*backend == nullptr) {
      ASSIGN_OR_RETURN(*backend, NewCudaBackend(device));
    }
    return backend->get();
  };
  operations.plan_compress = PlanCompress;
  operations.check_evaluate = CheckEvaluate;
  operations.run_compress = [get_backend](const CompressSpec& spec, ArtifactStore& store,
                                          const RunHooks& hooks) -> absl::StatusOr<CompressResult> {
    ASSIGN_OR_RETURN(Backend* const on, get_backend());
    return RunCompress(spec, *on, store, hooks);
  };
  operations.run_evaluate = [get_backend](const EvaluateSpec& spec, ArtifactStore& store,
                                          const RunHooks& hooks) -> absl::StatusOr<EvaluateResult> {
    ASSIGN_OR_RETURN(Backend* const on, get_backend());
    return RunEvaluate(spec, *on, store, hooks);
  };
  return operations;
}

}  // namespace svdllm
