// cuBLAS and cuSOLVER on OpenBLAS, which is column-major too. Engine read their matrices when
// the stream comes to them; alpha and beta are the caller's, read at once.
#include <cblas.h>
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cusolverDn.h>
#include <lapack.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/emulation/emulation.h"

namespace svdllm::emulation {
namespace {

// A handle is its stream.
template <typename Handle>
cudaStream_t& StreamOf(Handle handle) {
  return *reinterpret_cast<cudaStream_t*>(handle);
}

CBLAS_TRANSPOSE Transposed(cublasOperation_t operation) {
  return operation == CUBLAS_OP_N ? CblasNoTrans : CblasTrans;
}

char Triangle(cublasFillMode_t fill) { return fill == CUBLAS_FILL_MODE_UPPER ? 'U' : 'L'; }

// How a factor of a product is stored, m × n as it enters.
struct Stored {
  Stored(cublasOperation_t operation, int64_t m, int64_t n, int64_t ld)
      : rows(operation == CUBLAS_OP_N ? m : n), cols(operation == CUBLAS_OP_N ? n : m), ld(ld) {
    if (m <= 0 || n <= 0 || ld < rows) Fault("a product of matrices of impossible sizes");
  }
  int64_t rows, cols, ld;
};

size_t BytesOf(cudaDataType type) {
  if (type == CUDA_R_32F) return sizeof(float);
  if (type != CUDA_R_16F && type != CUDA_R_16BF) Fault("a product of a type that is not emulated");
  return 2;
}

// Terms that are summed up in one run. Matrix units add 16 products at a time to a sum; OpenBLAS
// adds one at a time where it takes its kernels for small matrices (AVX-512), and over 2048 tokens
// its error is then several times a device's.
constexpr int64_t kPiece = 128;

// Without gaps. Products of 16-bit numbers are exact in F32, as in the tensor cores.
std::vector<float> Widened(const void* data, cudaDataType type, const Stored& stored) {
  std::vector<float> wide;
  wide.reserve(static_cast<size_t>(stored.rows * stored.cols));
  for (int64_t j = 0; j < stored.cols; ++j) {
    for (int64_t at = j * stored.ld; at < j * stored.ld + stored.rows; ++at) {
      wide.push_back(type == CUDA_R_32F ? static_cast<const float*>(data)[at]
                     : type == CUDA_R_16F
                         ? __half2float(static_cast<const __half*>(data)[at])
                         : __bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]));
    }
  }
  return wide;
}

}  // namespace

extern "C" {

cublasStatus_t cublasCreate_v2(cublasHandle_t* handle) {
  *handle = reinterpret_cast<cublasHandle_t>(new cudaStream_t(nullptr));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy_v2(cublasHandle_t handle) {
  delete &StreamOf(handle);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream_v2(cublasHandle_t handle, cudaStream_t stream) {
  StreamOf(handle) = stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetWorkspace_v2(cublasHandle_t, void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasGetStatusString(cublasStatus_t) { return "the emulated cuBLAS refuses"; }

cublasStatus_t cublasSgemm_v2_64(cublasHandle_t handle, cublasOperation_t op_a,
                                 cublasOperation_t op_b, int64_t m, int64_t n, int64_t k,
                                 const float* alpha, const float* a, int64_t lda, const float* b,
                                 int64_t ldb, const float* beta, float* c, int64_t ldc) {
  Stored(op_a, m, k, lda), Stored(op_b, k, n, ldb), Stored(CUBLAS_OP_N, m, n, ldc);
  Enqueue(StreamOf(handle), [=, by = *alpha, keep = *beta] {
    cblas_sgemm(CblasColMajor, Transposed(op_a), Transposed(op_b), m, n, k, by, a, lda, b, ldb,
                keep, c, ldc);
  });
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasDgemm_v2_64(cublasHandle_t handle, cublasOperation_t op_a,
                                 cublasOperation_t op_b, int64_t m, int64_t n, int64_t k,
                                 const double* alpha, const double* a, int64_t lda, const double* b,
                                 int64_t ldb, const double* beta, double* c, int64_t ldc) {
  Stored(op_a, m, k, lda), Stored(op_b, k, n, ldb), Stored(CUBLAS_OP_N, m, n, ldc);
  Enqueue(StreamOf(handle), [=, by = *alpha, keep = *beta] {
    cblas_dgemm(CblasColMajor, Transposed(op_a), Transposed(op_b), m, n, k, by, a, lda, b, ldb,
                keep, c, ldc);
  });
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmStridedBatchedEx_64(
    cublasHandle_t handle, cublasOperation_t op_a, cublasOperation_t op_b, int64_t m, int64_t n,
    int64_t k, const void* alpha, const void* a, cudaDataType a_type, int64_t lda, long long a_step,
    const void* b, cudaDataType b_type, int64_t ldb, long long b_step, const void* beta, void* c,
    cudaDataType c_type, int64_t ldc, long long c_step, int64_t count, cublasComputeType_t compute,
    cublasGemmAlgo_t) {
  const Stored in_a(op_a, m, k, lda), in_b(op_b, k, n, ldb), out(CUBLAS_OP_N, m, n, ldc);
  if (a_type != b_type || c_type != CUDA_R_32F || compute != CUBLAS_COMPUTE_32F) {
    Fault("a product of types that cuBLAS does not put together");
  }
  const auto bytes = static_cast<int64_t>(BytesOf(a_type));
  Enqueue(StreamOf(handle), [=, by = *static_cast<const float*>(alpha),
                             keep = *static_cast<const float*>(beta)] {
    for (int64_t i = 0; i < count; ++i) {
      const auto wide_a = Widened(static_cast<const char*>(a) + i * a_step * bytes, a_type, in_a);
      const auto wide_b = Widened(static_cast<const char*>(b) + i * b_step * bytes, b_type, in_b);
      for (int64_t at = 0; at < k; at += kPiece) {
        cblas_sgemm(CblasColMajor, Transposed(op_a), Transposed(op_b), m, n,
                    std::min(kPiece, k - at), by,
                    wide_a.data() + at * (op_a == CUBLAS_OP_N ? in_a.rows : 1), in_a.rows,
                    wide_b.data() + at * (op_b == CUBLAS_OP_N ? 1 : in_b.rows), in_b.rows,
                    at == 0 ? keep : 1.0f, static_cast<float*>(c) + i * c_step, ldc);
      }
    }
  });
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasGemmEx_64(cublasHandle_t handle, cublasOperation_t op_a,
                               cublasOperation_t op_b, int64_t m, int64_t n, int64_t k,
                               const void* alpha, const void* a, cudaDataType a_type, int64_t lda,
                               const void* b, cudaDataType b_type, int64_t ldb, const void* beta,
                               void* c, cudaDataType c_type, int64_t ldc,
                               cublasComputeType_t compute, cublasGemmAlgo_t algorithm) {
  return cublasGemmStridedBatchedEx_64(handle, op_a, op_b, m, n, k, alpha, a, a_type, lda, 0, b,
                                       b_type, ldb, 0, beta, c, c_type, ldc, 0, 1, compute,
                                       algorithm);
}

cublasStatus_t cublasDtrsm_v2_64(cublasHandle_t handle, cublasSideMode_t side,
                                 cublasFillMode_t fill, cublasOperation_t op,
                                 cublasDiagType_t diagonal, int64_t m, int64_t n,
                                 const double* alpha, const double* a, int64_t lda, double* b,
                                 int64_t ldb) {
  Enqueue(StreamOf(handle), [=, by = *alpha] {
    cblas_dtrsm(CblasColMajor, side == CUBLAS_SIDE_LEFT ? CblasLeft : CblasRight,
                fill == CUBLAS_FILL_MODE_UPPER ? CblasUpper : CblasLower, Transposed(op),
                diagonal == CUBLAS_DIAG_UNIT ? CblasUnit : CblasNonUnit, m, n, by, a, lda, b, ldb);
  });
  return CUBLAS_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t* handle) {
  *handle = reinterpret_cast<cusolverDnHandle_t>(new cudaStream_t(nullptr));
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t handle) {
  delete &StreamOf(handle);
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t handle, cudaStream_t stream) {
  StreamOf(handle) = stream;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t* params) {
  *params = reinterpret_cast<cusolverDnParams_t>(new char);
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t params) {
  delete reinterpret_cast<char*>(params);
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXsyevd_bufferSize(cusolverDnHandle_t, cusolverDnParams_t,
                                             cusolverEigMode_t, cublasFillMode_t, int64_t n,
                                             cudaDataType, const void*, int64_t, cudaDataType,
                                             const void*, cudaDataType, size_t* device_bytes,
                                             size_t* host_bytes) {
  // As the real one; on the host it asks for nothing, and the caller's path for some is gone
  // through.
  const auto size = static_cast<size_t>(n);
  *device_bytes = (4 * size * size + 127 * size) * sizeof(double) + 950000;
  *host_bytes = (3 + 5 * size) * sizeof(int);
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnXsyevd(cusolverDnHandle_t handle, cusolverDnParams_t,
                                  cusolverEigMode_t mode, cublasFillMode_t fill, int64_t n,
                                  cudaDataType, void* a, int64_t lda, cudaDataType, void* values,
                                  cudaDataType, void* on_device, size_t device_bytes, void* on_host,
                                  size_t host_bytes, int* info) {
  Enqueue(StreamOf(handle), [=] {
    const char job = mode == CUSOLVER_EIG_MODE_VECTOR ? 'V' : 'N', triangle = Triangle(fill);
    const int size = static_cast<int>(n), ld = static_cast<int>(lda);
    const int work = static_cast<int>(device_bytes / sizeof(double));
    const int integers = static_cast<int>(host_bytes / sizeof(int));
    LAPACK_dsyevd(&job, &triangle, &size, static_cast<double*>(a), &ld,
                  static_cast<double*>(values), static_cast<double*>(on_device), &work,
                  static_cast<int*>(on_host), &integers, info);
  });
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXpotrf_bufferSize(cusolverDnHandle_t, cusolverDnParams_t,
                                             cublasFillMode_t, int64_t, cudaDataType, const void*,
                                             int64_t, cudaDataType, size_t* device_bytes,
                                             size_t* host_bytes) {
  *device_bytes = *host_bytes = 64;  // needs none; the callers' paths for some are gone through
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnXpotrf(cusolverDnHandle_t handle, cusolverDnParams_t,
                                  cublasFillMode_t fill, int64_t n, cudaDataType, void* a,
                                  int64_t lda, cudaDataType, void*, size_t, void*, size_t,
                                  int* info) {
  Enqueue(StreamOf(handle), [=] {
    const char triangle = Triangle(fill);
    const int size = static_cast<int>(n), ld = static_cast<int>(lda);
    LAPACK_dpotrf(&triangle, &size, static_cast<double*>(a), &ld, info);
  });
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnXpotrs(cusolverDnHandle_t handle, cusolverDnParams_t,
                                  cublasFillMode_t fill, int64_t n, int64_t columns, cudaDataType,
                                  const void* a, int64_t lda, cudaDataType, void* b, int64_t ldb,
                                  int* info) {
  Enqueue(StreamOf(handle), [=] {
    const char triangle = Triangle(fill);
    const int size = static_cast<int>(n), count = static_cast<int>(columns);
    const int ld_a = static_cast<int>(lda), ld_b = static_cast<int>(ldb);
    LAPACK_dpotrs(&triangle, &size, &count, static_cast<const double*>(a), &ld_a,
                  static_cast<double*>(b), &ld_b, info);
  });
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnXgeqrf_bufferSize(cusolverDnHandle_t, cusolverDnParams_t, int64_t,
                                             int64_t n, cudaDataType, const void*, int64_t,
                                             cudaDataType, const void*, cudaDataType,
                                             size_t* device_bytes, size_t* host_bytes) {
  *device_bytes = (static_cast<size_t>(n) * 1152 + (6 << 17)) * sizeof(double);  // as the real one
  *host_bytes = 64;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnXgeqrf(cusolverDnHandle_t handle, cusolverDnParams_t, int64_t m,
                                  int64_t n, cudaDataType, void* a, int64_t lda, cudaDataType,
                                  void* tau, cudaDataType, void* on_device, size_t device_bytes,
                                  void*, size_t, int* info) {
  Enqueue(StreamOf(handle), [=] {
    const int rows = static_cast<int>(m), cols = static_cast<int>(n), ld = static_cast<int>(lda);
    const int work = static_cast<int>(device_bytes / sizeof(double));
    LAPACK_dgeqrf(&rows, &cols, static_cast<double*>(a), &ld, static_cast<double*>(tau),
                  static_cast<double*>(on_device), &work, info);
  });
  return CUSOLVER_STATUS_SUCCESS;
}

cusolverStatus_t cusolverDnDorgqr_bufferSize(cusolverDnHandle_t, int, int n, int, const double*,
                                             int, const double*, int* work) {
  *work = n * 64;
  return CUSOLVER_STATUS_SUCCESS;
}
cusolverStatus_t cusolverDnDorgqr(cusolverDnHandle_t handle, int m, int n, int k, double* a,
                                  int lda, const double* tau, double* on_device, int work,
                                  int* info) {
  Enqueue(StreamOf(handle),
          [=] { LAPACK_dorgqr(&m, &n, &k, a, &lda, tau, on_device, &work, info); });
  return CUSOLVER_STATUS_SUCCESS;
}

}  // extern "C"
}  // namespace svdllm::emulation
