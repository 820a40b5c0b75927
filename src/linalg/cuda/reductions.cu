#include <algorithm>

#include "linalg/cuda/kernels.h"
#include "linalg/cuda/launch.cuh"

namespace svdllm::cuda {
namespace {

constexpr int kRowThreads = 256;
constexpr int kColumns = 32;   // of a block that sums columns
constexpr int kRowLanes = 16;  // threads that share a column
constexpr int64_t kMaxBlocks = int64_t{1} << 20;

__device__ float BlockMax(float value) {
  return BlockReduce(value, -INFINITY, [](float a, float b) { return fmaxf(a, b); });
}

// A block a row: f(i, thread) is called by every thread of the row's block.
template <typename F>
__global__ void RowKernel(int64_t rows, F f) {
  for (int64_t i = blockIdx.x; i < rows; i += gridDim.x) f(i);
}

template <typename F>
void ForRows(int64_t rows, cudaStream_t stream, F f) {
  if (rows == 0) return;
  Launch(RowKernel<F>, dim3(static_cast<unsigned>(std::min(rows, kMaxBlocks))), dim3(kRowThreads),
         0, stream, rows, f);
}

// Σ_j term(j) over a row's block.
template <typename F>
__device__ double RowSum(int64_t cols, F term) {
  double sum = 0;
  for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) sum += term(j);
  return BlockSum(sum);
}

// NaN is passed over: it comes back in the sums.
__device__ float RowMax(const float* x, int64_t cols) {
  float max = -INFINITY;
  for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) max = fmaxf(max, x[j]);
  return BlockMax(max);
}

// Each column's sum by kRowLanes threads, put together in the order of the lanes.
__global__ void AbsColumnsKernel(Strided<float> x, int64_t rows, int64_t cols, double* sum) {
  __shared__ double partial[kRowLanes][kColumns];
  const int64_t j = int64_t{blockIdx.x} * kColumns + threadIdx.x;
  double mine = 0;
  if (j < cols) {
    for (int64_t i = threadIdx.y; i < rows; i += kRowLanes) mine += fabsf(x(i, j));
  }
  partial[threadIdx.y][threadIdx.x] = mine;
  __syncthreads();
  if (threadIdx.y != 0 || j >= cols) return;
  double total = 0;
  for (int lane = 0; lane < kRowLanes; ++lane) total += partial[lane][threadIdx.x];
  sum[j] += total;
}

template <typename T>
void FindNonFiniteAs(const MatrixRef& x, int32_t* bad, cudaStream_t stream) {
  const auto at = At<T>(x);
  const int64_t cols = x.cols;
  ForRows(x.rows, stream, [=] __device__(int64_t i) {
    const T* row = at.row(i);
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
      if (!isfinite(row[j])) *bad = 1;  // whoever writes it writes the same
    }
  });
}

}  // namespace

void RmsNorm(MatrixRef x, MatrixRef weight, double eps, MatrixRef y, cudaStream_t stream) {
  const auto from = At<float>(x), to = At<float>(y);
  const float* by = weight.as<float>();
  const int64_t cols = x.cols;
  ForRows(x.rows, stream, [=] __device__(int64_t i) {
    const float* row = from.row(i);
    const double sum =
        RowSum(cols, [&](int64_t j) { return static_cast<double>(row[j] * row[j]); });
    const float scale = static_cast<float>(1.0 / sqrt(sum / static_cast<double>(cols) + eps));
    float* out = to.row(i);
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) out[j] = row[j] * scale * by[j];
  });
}

void LayerNorm(MatrixRef x, MatrixRef weight, MatrixRef bias, double eps, MatrixRef y,
               cudaStream_t stream) {
  const auto from = At<float>(x), to = At<float>(y);
  const float *by = weight.as<float>(), *plus = bias.as<float>();
  const int64_t cols = x.cols;
  ForRows(x.rows, stream, [=] __device__(int64_t i) {
    const float* row = from.row(i);
    const auto n = static_cast<double>(cols);
    const double mean = RowSum(cols, [&](int64_t j) { return static_cast<double>(row[j]); }) / n;
    const double sum = RowSum(cols, [&](int64_t j) { return (row[j] - mean) * (row[j] - mean); });
    const double scale = 1.0 / sqrt(sum / n + eps);
    float* out = to.row(i);
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
      out[j] = static_cast<float>((row[j] - mean) * scale) * by[j] + plus[j];
    }
  });
}

void AccumulateAbs(MatrixRef x, MatrixRef sum, cudaStream_t stream) {
  if (x.size() == 0) return;
  Launch(AbsColumnsKernel, dim3(static_cast<unsigned>((x.cols + kColumns - 1) / kColumns)),
         dim3(kColumns, kRowLanes), 0, stream, At<float>(x), x.rows, x.cols, sum.as<double>());
}

void CrossEntropy(MatrixRef logits, const int32_t* targets, double* rows, cudaStream_t stream) {
  const auto at = At<float>(logits);
  const int64_t cols = logits.cols;
  ForRows(logits.rows, stream, [=] __device__(int64_t i) {
    const int32_t target = targets[i];
    double loss = 0;
    if (target >= 0) {
      const float* row = at.row(i);
      const float max = RowMax(row, cols);
      const double sum =
          RowSum(cols, [&](int64_t j) { return static_cast<double>(expf(row[j] - max)); });
      loss = static_cast<double>(max) + log(sum) - static_cast<double>(row[target]);
    }
    if (threadIdx.x == 0) rows[i] = loss;
  });
}

void KlDivergence(MatrixRef reference, MatrixRef logits, double* rows, cudaStream_t stream) {
  const auto ps = At<float>(reference), qs = At<float>(logits);
  const int64_t cols = logits.cols;
  ForRows(logits.rows, stream, [=] __device__(int64_t i) {
    const float *p = ps.row(i), *q = qs.row(i);
    const float max = RowMax(p, cols), q_max = RowMax(q, cols);
    const double sum =
        RowSum(cols, [&](int64_t j) { return static_cast<double>(expf(p[j] - max)); });
    const double drift = RowSum(
        cols, [&](int64_t j) { return static_cast<double>(expf(p[j] - max) * (p[j] - q[j])); });
    const double q_sum =
        RowSum(cols, [&](int64_t j) { return static_cast<double>(expf(q[j] - q_max)); });
    // Σ p (log p − log q), the logarithms of both normalisers taken out.
    if (threadIdx.x == 0) {
      rows[i] =
          drift / sum + static_cast<double>(q_max) - static_cast<double>(max) + log(q_sum / sum);
    }
  });
}

void Dot(MatrixRef a, MatrixRef b, double* rows, cudaStream_t stream) {
  const auto as = At<double>(a), bs = At<double>(b);
  const int64_t cols = a.cols;
  ForRows(a.rows, stream, [=] __device__(int64_t i) {
    const double *x = as.row(i), *y = bs.row(i);
    const double sum = RowSum(cols, [&](int64_t j) { return x[j] * y[j]; });
    if (threadIdx.x == 0) rows[i] = sum;
  });
}

void AbsSums(MatrixRef a, double* rows, cudaStream_t stream) {
  const auto at = At<double>(a);
  const int64_t cols = a.cols;
  ForRows(a.rows, stream, [=] __device__(int64_t i) {
    const double* x = at.row(i);
    const double sum = RowSum(cols, [&](int64_t j) { return fabs(x[j]); });
    if (threadIdx.x == 0) rows[i] = sum;
  });
}

void FindNonFinite(MatrixRef x, int32_t* bad, cudaStream_t stream) {
  if (x.dtype == DType::kF64) {
    FindNonFiniteAs<double>(x, bad, stream);
  } else {
    FindNonFiniteAs<float>(x, bad, stream);
  }
}

}  // namespace svdllm::cuda
