#include <algorithm>

#include "linalg/cuda/kernels.h"
#include "linalg/cuda/launch.cuh"

namespace svdllm::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPivotThreads = 1024;  // of the one block that picks a pivot
constexpr int kColumns = 32;         // of a block that applies a reflector
constexpr int kRowLanes = 16;        // threads that share a column

// The first index below n whose key is the largest; every thread of the block gets it. A NaN counts
// as infinity.
template <typename F>
__device__ int64_t FirstLargest(int64_t n, F key) {
  const auto finite = [&](int64_t i) {
    const double value = key(i);
    return isnan(value) ? static_cast<double>(INFINITY) : value;
  };
  double largest = -INFINITY;
  for (int64_t i = threadIdx.x; i < n; i += blockDim.x) largest = fmax(largest, finite(i));
  largest = BlockReduce(largest, static_cast<double>(-INFINITY),
                        [](double a, double b) { return fmax(a, b); });
  int64_t first = n;
  for (int64_t i = threadIdx.x; i < n && first == n; i += blockDim.x) {
    if (finite(i) == largest) first = i;
  }
  return BlockReduce(first, n, [](int64_t a, int64_t b) { return a < b ? a : b; });
}

__global__ void OrderEigenKernel(Strided<double> found, const double* found_values, int64_t n,
                                 double* values, Strided<double> vectors) {
  for (int64_t j = blockIdx.x; j < n; j += gridDim.x) {
    if (threadIdx.x == 0) values[j] = found_values[n - 1 - j];
    if (vectors.data == nullptr) continue;
    const double* from = found.row(n - 1 - j);
    const int64_t largest = FirstLargest(n, [&](int64_t i) { return fabs(from[i]); });
    const double sign = from[largest] < 0 ? -1.0 : 1.0;
    double* to = vectors.row(j);
    for (int64_t i = threadIdx.x; i < n; i += blockDim.x) to[i] = sign * from[i];
  }
}

__global__ void FreeAllKernel(int64_t m, int32_t* free) {
  const int64_t j = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (j < m) free[j] = 1;
}

// The column of step s, and the reflector that makes it a multiple of the first unit vector from
// row s on: H = 1 − tau v vᵀ, v[s] = 1. reflector holds v from s on, and tau behind its k elements.
__global__ void __launch_bounds__(kPivotThreads)
    PivotKernel(Strided<double> x, int64_t k, int64_t m, int64_t s, const double* norms,
                int32_t* free, int32_t* chosen, double* diagonal, double* reflector) {
  const int64_t column = FirstLargest(m, [&](int64_t j) { return free[j] != 0 ? norms[j] : -1.0; });
  const double alpha = x(s, column);
  double mine = 0;
  for (int64_t i = s + 1 + threadIdx.x; i < k; i += blockDim.x) {
    mine += x(i, column) * x(i, column);
  }
  const double tail = BlockSum(mine);
  double beta = alpha, tau = 0, by = 0;
  if (tail != 0) {
    beta = -copysign(sqrt(alpha * alpha + tail), alpha);
    tau = (beta - alpha) / beta;
    by = 1 / (alpha - beta);
  }
  for (int64_t i = s + 1 + threadIdx.x; i < k; i += blockDim.x) {
    reflector[i] = x(i, column) * by;
  }
  if (threadIdx.x == 0) {
    reflector[s] = 1;
    reflector[k] = tau;
    free[column] = 0;
    chosen[s] = static_cast<int32_t>(column);
    diagonal[s] = beta;
    x(s, column) = beta;
  }
}

// The sum over a column's threads, in the order of the lanes; every thread of the block calls it.
__device__ double ColumnSum(double mine) {
  __shared__ double partial[kRowLanes][kColumns];
  __syncthreads();  // the last call's partial values have been read
  partial[threadIdx.y][threadIdx.x] = mine;
  __syncthreads();
  double sum = 0;
  for (int lane = 0; lane < kRowLanes; ++lane) sum += partial[lane][threadIdx.x];
  return sum;
}

// Applies the reflector of step s to the columns that are still free, and takes their squared norms
// below row s; s = −1 takes the norms only. Taken anew at every step, they need no correction for
// cancellation.
__global__ void __launch_bounds__(kColumns* kRowLanes)
    ReflectKernel(Strided<double> x, int64_t k, int64_t m, int64_t s, const int32_t* free,
                  const double* reflector, double* norms) {
  const int64_t j = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  const bool mine = j < m && free[j] != 0;
  double factor = 0;
  if (s >= 0) {
    double dot = 0;
    for (int64_t i = s + threadIdx.y; mine && i < k; i += kRowLanes) dot += reflector[i] * x(i, j);
    factor = reflector[k] * ColumnSum(dot);
    if (mine && threadIdx.y == 0) x(s, j) -= factor;
  }
  double norm = 0;
  for (int64_t i = s + 1 + threadIdx.y; mine && i < k; i += kRowLanes) {
    double value = x(i, j);
    if (s >= 0) {
      value -= reflector[i] * factor;
      x(i, j) = value;
    }
    norm += value * value;
  }
  norm = ColumnSum(norm);
  if (mine && threadIdx.y == 0) norms[j] = norm;
}

void Reflect(const PivotedQr& qr, int64_t step, cudaStream_t stream) {
  const dim3 columns(static_cast<unsigned>((qr.x.cols + kColumns - 1) / kColumns));
  Launch(ReflectKernel, columns, dim3(kColumns, kRowLanes), 0, stream, At<double>(qr.x), qr.x.rows,
         qr.x.cols, step, qr.free, qr.reflector, qr.norms);
}

}  // namespace

void OrderEigen(MatrixRef found, const double* found_values, MatrixRef values, MatrixRef vectors,
                cudaStream_t stream) {
  const int64_t n = found.rows;
  if (n == 0) return;
  Launch(OrderEigenKernel, dim3(static_cast<unsigned>(n)), dim3(kThreads), 0, stream,
         At<double>(found), found_values, n, values.as<double>(), At<double>(vectors));
}

void BeginPivotedQr(const PivotedQr& qr, cudaStream_t stream) {
  const int64_t m = qr.x.cols;
  Launch(FreeAllKernel, dim3(static_cast<unsigned>((m + kThreads - 1) / kThreads)), dim3(kThreads),
         0, stream, m, qr.free);
  Reflect(qr, -1, stream);
}

void StepOfPivotedQr(const PivotedQr& qr, int64_t step, cudaStream_t stream) {
  Launch(PivotKernel, dim3(1), dim3(kPivotThreads), 0, stream, At<double>(qr.x), qr.x.rows,
         qr.x.cols, step, qr.norms, qr.free, qr.chosen, qr.diagonal, qr.reflector);
  Reflect(qr, step, stream);
}

}  // namespace svdllm::cuda
