// The CUDA runtime's device, memory and copies.
#include <cuda_runtime_api.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "tests/emulation/emulation.h"

namespace svdllm::emulation {
namespace {

constexpr size_t kDeviceBytes = size_t{16} << 30;
constexpr size_t kPage = 4096;
constexpr int kGarbage = 0xff;  // a NaN in every type

struct Allocation {
  cudaMemPool_t pool;
  char* mapping;
  size_t mapped;
};

std::mutex mutex;
std::map<const void*, size_t> pinned;     // host memory: address, bytes
std::map<void*, Allocation> allocations;  // of pools, until their free has run

bool IsPinned(const void* begin, size_t bytes) {
  std::lock_guard lock(mutex);
  auto after = pinned.upper_bound(begin);
  if (after == pinned.begin()) return false;
  const auto& [data, size] = *--after;
  return static_cast<const char*>(begin) + bytes <= static_cast<const char*>(data) + size;
}

void Free(void* data) {
  std::lock_guard lock(mutex);
  const auto found = allocations.find(data);
  if (found == allocations.end()) Fault("memory is freed twice");
  munmap(found->second.mapping, found->second.mapped);  // who uses it now is stopped
  allocations.erase(found);
}

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::memset(properties, 0, sizeof(*properties));
  std::snprintf(properties->name, sizeof(properties->name), "emulated on the CPU");
  properties->totalGlobalMem = kDeviceBytes;
  // Turing, the oldest, multiplies no BF16.
  const bool turing = std::getenv("EMULATION_TURING") != nullptr;
  properties->major = turing ? 7 : 9;
  properties->minor = turing ? 5 : 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char* id, int bytes, int) {
  std::snprintf(id, static_cast<size_t>(bytes), "0000:00:00.0");
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = 1;  // asked for what there is at all
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }

// Calls that a device refuses are faults; what is out of memory answers so itself.
cudaError_t cudaGetLastError() { return cudaSuccess; }
const char* cudaGetErrorName(cudaError_t) { return "an error of the emulation"; }
const char* cudaGetErrorString(cudaError_t) { return "the emulated device refuses"; }

cudaError_t cudaMemGetInfo(size_t* available, size_t* total) {
  *available = *total = kDeviceBytes;
  return cudaSuccess;
}

cudaError_t cudaMemPoolCreate(cudaMemPool_t* pool, const cudaMemPoolProps*) {
  *pool = reinterpret_cast<cudaMemPool_t>(new char);
  return cudaSuccess;
}

cudaError_t cudaMemPoolDestroy(cudaMemPool_t pool) {
  std::lock_guard lock(mutex);
  for (const auto& [data, allocation] : allocations) {
    if (allocation.pool == pool) Fault("a pool is destroyed with memory in use");
  }
  delete reinterpret_cast<char*>(pool);
  return cudaSuccess;
}

cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }
cudaError_t cudaMemPoolTrimTo(cudaMemPool_t, size_t) { return cudaSuccess; }

// Ends where a page begins that nobody may touch, but for what keeps it aligned to 16 bytes.
cudaError_t cudaMallocFromPoolAsync(void** data, size_t bytes, cudaMemPool_t pool,
                                    cudaStream_t stream) {
  if (bytes > kDeviceBytes) return cudaErrorMemoryAllocation;
  const size_t usable = (bytes + kPage - 1) / kPage * kPage, mapped = usable + kPage;
  void* const mapping =
      mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return cudaErrorMemoryAllocation;
  char* const end = static_cast<char*>(mapping) + usable;
  mprotect(end, kPage, PROT_NONE);
  void* const made = end - (bytes + 15) / 16 * 16;
  {
    std::lock_guard lock(mutex);
    allocations[made] = {pool, static_cast<char*>(mapping), mapped};
  }
  // In the stream's order: it spoils what another stream writes too early.
  Enqueue(stream, [=] { std::memset(made, kGarbage, bytes); });
  *data = made;
  return cudaSuccess;
}

cudaError_t cudaFreeAsync(void* data, cudaStream_t stream) {
  Enqueue(stream, [=] { Free(data); });
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  *data = std::malloc(bytes);
  std::memset(*data, kGarbage, bytes);
  return cudaSuccess;
}

cudaError_t cudaFree(void* data) {
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** data, size_t bytes) {
  *data = std::malloc(bytes);
  std::lock_guard lock(mutex);
  pinned[*data] = bytes;
  return cudaSuccess;
}

cudaError_t cudaFreeHost(void* data) {
  std::lock_guard lock(mutex);
  if (pinned.erase(data) == 0) Fault("cudaFreeHost: of memory that is not pinned");
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  Enqueue(stream, [=] { std::memset(data, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaMemset2DAsync(void* data, size_t pitch, int value, size_t width, size_t height,
                              cudaStream_t stream) {
  Enqueue(stream, [=] {
    for (size_t i = 0; i < height; ++i) {
      std::memset(static_cast<char*>(data) + i * pitch, value, width);
    }
  });
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  if (kind == cudaMemcpyHostToDevice && !IsPinned(from, bytes)) {
    Fault("an upload of memory that is not pinned would wait for the stream");
  }
  Enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}

}  // extern "C"
}  // namespace svdllm::emulation
