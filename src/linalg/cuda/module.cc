// The C interface of the module (cuda_module.h has the contract).
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cctype>
#include <string>

#include "linalg/cuda/backend.h"
#include "linalg/cuda/device.h"
#include "linalg/cuda/module_api.h"

namespace svdllm {
namespace {

// As the system writes it, in small letters; empty where the driver does not say.
std::string PciBusId(int ordinal) {
  char text[32] = "";
  if (cudaDeviceGetPCIBusId(text, sizeof(text), ordinal) != cudaSuccess) {
    cudaGetLastError();  // is not the next call's
    return "";
  }
  std::string id = text;
  std::transform(id.begin(), id.end(), id.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return id;
}

void Report(const absl::Status& status, CudaOnError on_error, void* context) {
  on_error(context, static_cast<int>(status.code()), ErrorReason(status).c_str(),
           std::string(status.message()).c_str());
}

void Devices(void (*on_device)(void*, const CudaDevice*), CudaOnError on_error, void* context) {
  const absl::StatusOr<int> count = cuda::DeviceCount();
  if (!count.ok()) return Report(count.status(), on_error, context);
  int driver = 0;
  cudaDriverGetVersion(&driver);
  for (int i = 0; i < *count; ++i) {
    cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceProperties(&properties, i);
    if (error != cudaSuccess) {
      return Report(absl::UnavailableError(cudaGetErrorString(error)), on_error, context);
    }
    const std::string bus = PciBusId(i);
    const CudaDevice device{properties.name,  static_cast<int64_t>(properties.totalGlobalMem),
                            properties.major, properties.minor,
                            driver,           bus.c_str()};
    on_device(context, &device);
  }
}

void* Create(int ordinal, const CudaOptions* options, CudaOnError on_error, void* context) {
  auto backend = cuda::MakeBackend(ordinal, *options);
  if (!backend.ok()) {
    Report(backend.status(), on_error, context);
    return nullptr;
  }
  return backend->release();
}

}  // namespace
}  // namespace svdllm

extern "C" __attribute__((visibility("default")))
const svdllm::CudaApi svdllm_cuda_api = {svdllm::kCudaApiVersion, svdllm::Devices, svdllm::Create};
