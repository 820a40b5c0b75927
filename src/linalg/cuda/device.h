// What the CUDA backend stands on: one device with its compute stream, a stream for uploads beside
// it, library handles and memory. Used by one thread at a time, except where a function says "by
// any thread".
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "linalg/backend.h"
#include "linalg/cuda/check.h"
#include "linalg/cuda/transfers.h"

namespace svdllm::cuda {

// Returns how many devices there are, at least 1. Where there is none it is UNAVAILABLE, naming
// what is missing.
absl::StatusOr<int> DeviceCount();

class Device {
 public:
  // memory_limit is in bytes. 0, like any limit above it, means what is free now less a reserve.
  // UNAVAILABLE where there is no such device, or it is too old.
  static absl::StatusOr<std::shared_ptr<Device>> Open(int ordinal, int64_t memory_limit);
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // Returns the compute stream and makes this the calling thread's device. By any thread.
  cudaStream_t Use() const;
  cublasHandle_t blas() const { return blas_; }
  cusolverDnHandle_t solver() const { return solver_; }
  cusolverDnParams_t params() const { return params_; }
  const std::string& name() const { return name_; }  // "cuda:0: NVIDIA H100 80GB HBM3, driver 13.0"
  // Whether the libraries multiply matrices of this type.
  bool Multiplies(DType dtype) const { return dtype != DType::kBF16 || has_bf16_; }
  const MemoryUse& usage() const { return usage_; }
  void ResetPeak() { usage_.peak = usage_.now; }

  // Returns device memory that holds anything, usable in the stream's order. It goes back to the
  // pool when its last owner drops it, and keeps only those things alive that it needs for that.
  // RESOURCE_EXHAUSTED with DEVICE_OUT_OF_MEMORY, naming the bytes.
  static absl::StatusOr<std::shared_ptr<void>> Allocate(const std::shared_ptr<Device>& device,
                                                        int64_t bytes);
  // Returns memory as above, with zeros in it; between BeginUploads and EndUploads, in the uploads'
  // order.
  static absl::StatusOr<std::shared_ptr<void>> AllocateZeros(const std::shared_ptr<Device>& device,
                                                             int64_t bytes);
  // Returns memory as above, with a copy of host memory in it. bytes is a multiple of 4.
  static absl::StatusOr<std::shared_ptr<void>> Put(const std::shared_ptr<Device>& device,
                                                   const void* host, int64_t bytes);

  // The operations of Backend with these names.
  absl::Status Upload(const void* host, DType host_dtype, MatrixRef to);
  absl::Status Download(MatrixRef from, void* host, DType host_dtype);
  absl::Status BeginUploads();
  absl::Status EndUploads();

  // To be called with every operation that the compute stream is given. It waits where hundreds of
  // them are still to be done. Beyond a thousand the driver would wait itself, and other threads
  // with it.
  void Pace();

  // Returns OK unless a kernel could not be launched since the calling thread's last call. By any
  // thread.
  absl::Status Launched(const char* operation) const;
  absl::Status Synchronize(const char* operation) const;
  // Runs call(), a library's function. Where it found no memory, what the pool keeps is given back
  // and call() runs once more. For calls that leave their operands alone until they are sure to
  // succeed. By any thread.
  template <typename F>
  absl::Status Call(const char* operation, F call) {
    absl::Status status = Check(operation, call());
    if (!absl::IsResourceExhausted(status)) return status;
    RETURN_IF_ERROR(Trim(operation));
    return Check(operation, call());
  }

 private:
  explicit Device(int ordinal) : ordinal_(ordinal) {}
  absl::Status Init();
  absl::Status InitPool();
  absl::Status InitLibraries();
  absl::Status SetLimit();
  absl::Status Trim(const char* operation) const;
  absl::Status OutOfMemory(int64_t bytes) const;
  void Count(int64_t bytes);
  void Free(void* memory, int64_t bytes, int64_t session);

  const int ordinal_;
  std::string name_;
  bool has_bf16_ = false;
  cudaMemPool_t pool_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cudaStream_t upload_stream_ = nullptr;
  cudaEvent_t uploaded_ = nullptr;
  cudaEvent_t passed_[4] = {};  // in the compute stream, kPace operations apart
  int64_t given_ = 0;           // operations that the compute stream was given so far
  cublasHandle_t blas_ = nullptr;
  void* blas_workspace_ = nullptr;
  cusolverDnHandle_t solver_ = nullptr;
  cusolverDnParams_t params_ = nullptr;
  std::unique_ptr<Transfers> transfers_, uploads_;  // in the order of each stream
  // The number of the uploads that are under way; 0: none are. sessions_ counts how many there
  // were.
  int64_t session_ = 0;
  int64_t sessions_ = 0;
  MemoryUse usage_;
};

}  // namespace svdllm::cuda
