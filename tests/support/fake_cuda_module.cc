// A stand-in for the CUDA module: two devices that are the CPU. In the environment,
// FAKE_CUDA_FAILS: no backend can be made, and the error has this code and, behind a blank, this
// reason; FAKE_CUDA_MEMORY: the bytes that a backend gets, whatever its limit is; FAKE_CUDA_TAKEN:
// bytes of its limit that something else has; FAKE_CUDA_SECOND: the second device's compute
// capability, 10 · major + minor. FAKE_CUDA_EXACT is set to what was asked for.
#include <cstdlib>
#include <sstream>
#include <string>

#include "linalg/backend.h"
#include "linalg/cuda/module_api.h"

namespace svdllm {
namespace {

void Devices(void (*on_device)(void*, const CudaDevice*), CudaOnError, void* context) {
  const char* const given = std::getenv("FAKE_CUDA_SECOND");
  const int capability = given != nullptr ? std::atoi(given) : 86;
  const CudaDevice first = {"Pretended GPU", int64_t{80} << 30, 9, 0, 13000, "0000:3b:00.0"};
  const CudaDevice second = {"Smaller GPU", int64_t{40} << 30, capability / 10, capability % 10,
                             13000,         "0000:5e:00.0"};
  on_device(context, &first);
  on_device(context, &second);
}

void* Create(int, const CudaOptions* options, CudaOnError on_error, void* context) {
  setenv("FAKE_CUDA_EXACT", std::to_string(options->exact).c_str(), 1);
  if (const char* const fails = std::getenv("FAKE_CUDA_FAILS"); fails != nullptr) {
    int code = 0;
    std::string reason;
    std::istringstream(fails) >> code >> reason;
    on_error(context, code, reason.c_str(), "the device is lost");
    return nullptr;
  }
  const char* const memory = std::getenv("FAKE_CUDA_MEMORY");
  std::unique_ptr<Backend> backend =
      NewCpuBackend(0, memory != nullptr ? std::atoll(memory) : options->memory_limit);
  if (const char* const taken = std::getenv("FAKE_CUDA_TAKEN"); taken != nullptr) {
    static Matrix other;
    other = *backend->New(1, std::atoll(taken) / 4, DType::kF32);
  }
  return backend.release();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const CudaApi svdllm_cuda_api;
const CudaApi svdllm_cuda_api = {kCudaApiVersion, Devices, Create};

}  // namespace svdllm
