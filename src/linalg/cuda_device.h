// What the CUDA backend stands on: one device with its compute stream, library handles, memory and
// the pinned buffers through which data come and go. Used by one thread at a time.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <cstdint>
#include <iterator>
#include <memory>
#include <string>

#include "base/status.h"
#include "linalg/matrix.h"

namespace svdllm::cuda {

// OK, or the error with the operation's name; RESOURCE_EXHAUSTED with DEVICE_OUT_OF_MEMORY where a
// library found no memory.
absl::Status Check(const char* operation, cudaError_t error);
absl::Status Check(const char* operation, cublasStatus_t status);
absl::Status Check(const char* operation, cusolverStatus_t status);

// At least 1; UNAVAILABLE, naming what is missing, where there is none.
absl::StatusOr<int> DeviceCount();

class Device {
 public:
  static absl::StatusOr<std::shared_ptr<Device>> Open(int ordinal);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // The compute stream. Makes this the calling thread's device.
  cudaStream_t Use();
  cublasHandle_t blas() const { return blas_; }
  cusolverDnHandle_t solver() const { return solver_; }
  cusolverDnParams_t params() const { return params_; }
  int ordinal() const { return ordinal_; }
  const std::string& name() const { return name_; }  // "cuda:0: NVIDIA H100 80GB HBM3, driver 13.0"
  int64_t peak_bytes() const { return usage_.peak; }

  // Device memory that holds anything, usable in the stream's order; it goes back to the pool when
  // the last owner drops it, and keeps nothing else alive than what it needs for that.
  // RESOURCE_EXHAUSTED with DEVICE_OUT_OF_MEMORY, naming the bytes.
  static absl::StatusOr<std::shared_ptr<void>> Allocate(const std::shared_ptr<Device>& device,
                                                        int64_t bytes);
  // The same with a copy of host memory in it; bytes is a multiple of 4.
  static absl::StatusOr<std::shared_ptr<void>> Put(const std::shared_ptr<Device>& device,
                                                   const void* host, int64_t bytes);

  // Any host memory, converted on the device. The host's is free for other use on return.
  absl::Status Upload(const void* host, DType host_dtype, MatrixRef to);
  // Waits for everything before it, and reports what failed there.
  absl::Status Download(MatrixRef from, void* host, DType host_dtype);
  // OK unless a kernel could not be launched since the last call.
  absl::Status Launched(const char* operation);
  absl::Status Synchronize(const char* operation);

 private:
  struct Usage {
    int64_t now = 0;
    int64_t peak = 0;
  };
  struct Pinned {
    void* data = nullptr;
    cudaEvent_t moved = nullptr;  // after the last copy from or to it
  };

  explicit Device(int ordinal) : ordinal_(ordinal) {}
  absl::Status Init();
  absl::Status OutOfMemory(int64_t bytes);
  Pinned& NextPinned() { return pinned_[next_pinned_++ % std::size(pinned_)]; }

  const int ordinal_;
  std::string name_;
  cudaMemPool_t pool_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cublasHandle_t blas_ = nullptr;
  cusolverDnHandle_t solver_ = nullptr;
  cusolverDnParams_t params_ = nullptr;
  // Several, so that one is filled while others wait in the stream for their turn.
  Pinned pinned_[4];
  size_t next_pinned_ = 0;
  void* staging_ = nullptr;  // on the device, for conversions
  Usage usage_;
};

}  // namespace svdllm::cuda
