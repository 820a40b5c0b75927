#include "linalg/cuda/check.h"

#include <string>

namespace svdllm::cuda {
namespace {

absl::Status LibraryError(const char* operation, const std::string& what, bool out_of_memory) {
  const std::string message = std::string(operation) + ": " + what;
  if (!out_of_memory) return absl::InternalError(message);
  return MakeError(absl::StatusCode::kResourceExhausted, kDeviceOutOfMemory, message);
}

}  // namespace

absl::Status Check(const char* operation, cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  return LibraryError(operation,
                      std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error),
                      error == cudaErrorMemoryAllocation);
}

absl::Status Check(const char* operation, cublasStatus_t status) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return LibraryError(operation, cublasGetStatusString(status),
                      status == CUBLAS_STATUS_ALLOC_FAILED);
}

absl::Status Check(const char* operation, cusolverStatus_t status) {
  if (status == CUSOLVER_STATUS_SUCCESS) return absl::OkStatus();
  return LibraryError(operation, "cuSOLVER status " + std::to_string(static_cast<int>(status)),
                      status == CUSOLVER_STATUS_ALLOC_FAILED);
}

}  // namespace svdllm::cuda
