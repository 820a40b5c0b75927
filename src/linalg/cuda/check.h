// Conversions between our types and those of CUDA's libraries.
#pragma once

#include <cublas_v2.h>
#include <cuda_runtime_api.h>
#include <cusolverDn.h>

#include "base/status.h"
#include "linalg/dtype.h"

namespace svdllm::cuda {

// Returns OK, or the error with the operation's name. RESOURCE_EXHAUSTED with DEVICE_OUT_OF_MEMORY
// where a library found no memory.
absl::Status Check(const char* operation, cudaError_t error);
absl::Status Check(const char* operation, cublasStatus_t status);
absl::Status Check(const char* operation, cusolverStatus_t status);

constexpr cudaDataType DataType(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return CUDA_R_64F;
    case DType::kF32:
      return CUDA_R_32F;
    case DType::kF16:
      return CUDA_R_16F;
    case DType::kBF16:
      return CUDA_R_16BF;
    case DType::kI32:
      break;
  }
  return CUDA_R_32I;
}

}  // namespace svdllm::cuda
