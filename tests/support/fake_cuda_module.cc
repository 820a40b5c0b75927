// A stand-in for the CUDA module: two devices that are the CPU. In the environment,
// FAKE_CUDA_FAILS: no backend can be made; FAKE_CUDA_MEMORY: the bytes that a backend gets,
// whatever its limit is. FAKE_CUDA_EXACT is set to what was asked for.
#include <cstdlib>
#include <string>

#include "linalg/backend.h"
#include "linalg/cuda_module.h"

namespace svdllm {
namespace {

void Devices(void (*on_device)(void*, const CudaDevice*), void (*)(void*, const char*),
             void* context) {
  const CudaDevice first = {"Pretended GPU", int64_t{80} << 30, 9, 0, 13000, "0000:3b:00.0"};
  const CudaDevice second = {"Smaller GPU", int64_t{40} << 30, 8, 6, 13000, "0000:5e:00.0"};
  on_device(context, &first);
  on_device(context, &second);
}

void* Create(int, const CudaOptions* options, void (*on_error)(void*, const char*), void* context) {
  setenv("FAKE_CUDA_EXACT", std::to_string(options->exact).c_str(), 1);
  if (std::getenv("FAKE_CUDA_FAILS") != nullptr) {
    on_error(context, "the device is lost");
    return nullptr;
  }
  const char* const memory = std::getenv("FAKE_CUDA_MEMORY");
  return NewCpuBackend(0, memory != nullptr ? std::atoll(memory) : options->memory_limit).release();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const CudaApi svdllm_cuda_api;
const CudaApi svdllm_cuda_api = {kCudaApiVersion, Devices, Create};

}  // namespace svdllm
