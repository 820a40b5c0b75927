#include "metrics/nvml.h"

#include <dlfcn.h>

#include <utility>

namespace svdllm {
namespace {

// NVML's own types; its binary interface is stable.
using Handle = struct NvmlDevice*;
using Result = int;
constexpr Result kSuccess = 0;

struct Memory {
  unsigned long long total, free, used;  // bytes
};

struct Utilization {
  unsigned int gpu, memory;  // percent
};

template <typename Function>
bool Find(void* library, const char* name, Function*& function) {
  function = reinterpret_cast<Function*>(dlsym(library, name));
  return function != nullptr;
}

}  // namespace

struct Nvml::Functions {
  Result (*init)() = nullptr;
  Result (*shutdown)() = nullptr;
  Result (*handle)(const char* pci_bus_id, Handle*) = nullptr;
  Result (*memory)(Handle, Memory*) = nullptr;
  Result (*utilization)(Handle, Utilization*) = nullptr;
  const char* (*error_string)(Result) = nullptr;

  absl::Status Error(const std::string& what, Result result) const {
    return absl::UnavailableError("NVML: " + what + ": " + error_string(result));
  }
};

absl::StatusOr<std::unique_ptr<Nvml>> Nvml::Open(const std::string& library) {
  // Stays open for good, as the driver's libraries prefer.
  void* const opened = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (opened == nullptr) return absl::UnavailableError(std::string("NVML: ") + dlerror());
  auto functions = std::make_unique<Functions>();
  if (!Find(opened, "nvmlInit_v2", functions->init) ||
      !Find(opened, "nvmlShutdown", functions->shutdown) ||
      !Find(opened, "nvmlDeviceGetHandleByPciBusId_v2", functions->handle) ||
      !Find(opened, "nvmlDeviceGetMemoryInfo", functions->memory) ||
      !Find(opened, "nvmlDeviceGetUtilizationRates", functions->utilization) ||
      !Find(opened, "nvmlErrorString", functions->error_string)) {
    return absl::UnavailableError(std::string("NVML: ") + dlerror());
  }
  const Result result = functions->init();
  if (result != kSuccess) return functions->Error(library, result);
  return std::unique_ptr<Nvml>(new Nvml(std::move(functions)));
}

Nvml::Nvml(std::unique_ptr<Functions> functions) : functions_(std::move(functions)) {}

Nvml::~Nvml() { functions_->shutdown(); }

absl::StatusOr<DeviceUse> Nvml::Read(const std::string& pci_bus_id) const {
  // Not kept: a device can fall off the bus and come back.
  Handle handle = nullptr;
  Result result = functions_->handle(pci_bus_id.c_str(), &handle);
  Memory memory{};
  if (result == kSuccess) result = functions_->memory(handle, &memory);
  if (result != kSuccess) return functions_->Error("device " + pci_bus_id, result);
  DeviceUse use;
  use.memory_used_bytes = static_cast<int64_t>(memory.used);
  use.memory_bytes = static_cast<int64_t>(memory.total);
  Utilization utilization{};
  if (functions_->utilization(handle, &utilization) == kSuccess) {
    use.utilization = utilization.gpu / 100.0;
  }
  return use;
}

}  // namespace svdllm
