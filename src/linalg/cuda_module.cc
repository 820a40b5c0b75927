// The C interface of the module (cuda_module.h has the contract).
#include "linalg/cuda_module.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cctype>
#include <string>

#include "linalg/cuda_backend.h"
#include "linalg/cuda_device.h"

namespace svdllm {
namespace {

// As the system writes it, in small letters; empty where the driver does not say.
std::string PciBusId(int ordinal) {
  char text[32] = "";
  if (cudaDeviceGetPCIBusId(text, sizeof(text), ordinal) != cudaSuccess) return "";
  std::string id = text;
  std::transform(id.begin(), id.end(), id.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return id;
}

void Devices(void (*on_device)(void*, const CudaDevice*), void (*on_error)(void*, const char*),
             void* context) {
  const absl::StatusOr<int> count = cuda::DeviceCount();
  if (!count.ok()) return on_error(context, std::string(count.status().message()).c_str());
  int driver = 0;
  cudaDriverGetVersion(&driver);
  for (int i = 0; i < *count; ++i) {
    cudaDeviceProp properties;
    const cudaError_t error = cudaGetDeviceProperties(&properties, i);
    if (error != cudaSuccess) return on_error(context, cudaGetErrorString(error));
    const std::string bus = PciBusId(i);
    const CudaDevice device{properties.name,  static_cast<int64_t>(properties.totalGlobalMem),
                            properties.major, properties.minor,
                            driver,           bus.c_str()};
    on_device(context, &device);
  }
}

void* Create(int ordinal, const CudaOptions* options, void (*on_error)(void*, const char*),
             void* context) {
  auto backend = cuda::MakeBackend(ordinal, *options);
  if (!backend.ok()) {
    on_error(context, std::string(backend.status().message()).c_str());
    return nullptr;
  }
  return backend->release();
}

}  // namespace
}  // namespace svdllm

extern "C" __attribute__((visibility("default")))
const svdllm::CudaApi svdllm_cuda_api = {svdllm::kCudaApiVersion, svdllm::Devices, svdllm::Create};
