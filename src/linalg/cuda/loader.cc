#include "linalg/cuda/loader.h"

#include <cstdlib>

#include "base/module.h"

namespace svdllm {
namespace {

absl::StatusOr<const CudaApi*> Api() {
  // Every stream a queue of its own: two batches of eigenproblems, the compute stream and the
  // uploads are more than the driver's eight, and those that share one wait for each other. Read
  // when the driver is opened, which is while a process starts.
  static const int queues = setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", /*replace=*/0);
  static_cast<void>(queues);
  static const absl::StatusOr<void*> module = OpenModule(kCudaModule, kCudaSymbol);
  if (!module.ok()) return Annotate(module.status(), "CUDA");
  const auto* api = static_cast<const CudaApi*>(*module);
  if (api->version != kCudaApiVersion) {
    return absl::UnavailableError(std::string("CUDA: ") + kCudaModule +
                                  " is of another version of this program");
  }
  return api;
}

std::string Pair(int major, int minor) {
  return std::to_string(major) + "." + std::to_string(minor);
}

// What the module's callbacks fill.
struct Answer {
  std::vector<CudaDeviceInfo> devices;
  absl::Status error;
};

void OnError(void* answer, int code, const char* reason, const char* message) {
  const auto status_code = static_cast<absl::StatusCode>(code);
  static_cast<Answer*>(answer)->error = *reason == '\0' ? absl::Status(status_code, message)
                                                        : MakeError(status_code, reason, message);
}

void OnDevice(void* answer, const CudaDevice* device) {
  static_cast<Answer*>(answer)->devices.push_back(
      {device->name, device->memory_bytes, device->major, device->minor,
       Pair(device->major, device->minor), Pair(device->driver / 1000, device->driver % 1000 / 10),
       device->pci_bus_id});
}

}  // namespace

absl::StatusOr<std::vector<CudaDeviceInfo>> CudaDevices() {
  ASSIGN_OR_RETURN(const CudaApi* api, Api());
  Answer answer;
  api->devices(OnDevice, OnError, &answer);
  RETURN_IF_ERROR(Annotate(answer.error, "CUDA"));
  return std::move(answer.devices);
}

absl::StatusOr<std::unique_ptr<Backend>> NewCudaBackend(int device, const CudaOptions& options) {
  ASSIGN_OR_RETURN(const auto devices, CudaDevices());
  const std::string name = "CUDA: cuda:" + std::to_string(device);
  if (device < 0 || static_cast<size_t>(device) >= devices.size()) {
    return absl::UnavailableError(name + " is not there, only " + std::to_string(devices.size()) +
                                  (devices.size() == 1 ? " device" : " devices"));
  }
  ASSIGN_OR_RETURN(const CudaApi* api, Api());
  Answer answer;
  void* backend = api->create(device, &options, OnError, &answer);
  if (backend == nullptr) return Annotate(answer.error, name);
  return std::unique_ptr<Backend>(static_cast<Backend*>(backend));
}

}  // namespace svdllm
