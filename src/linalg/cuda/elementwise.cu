#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "linalg/cuda/kernels.h"
#include "linalg/cuda/launch.cuh"

namespace svdllm::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 32;
constexpr int kTileRows = 8;
// Of a grid: more rows than that are shared out in turns.
constexpr int64_t kMaxGridRows = 32768;
constexpr int64_t kMaxGridCols = int64_t{1} << 24;

template <typename F>
__global__ void ForEachKernel(int64_t rows, int64_t cols, F f) {
  const int64_t first = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = blockIdx.y; i < rows; i += gridDim.y) {
    for (int64_t j = first; j < cols; j += step) f(i, j);
  }
}

// f(i, j) for every element.
template <typename F>
void ForEach(int64_t rows, int64_t cols, cudaStream_t stream, F f) {
  if (rows == 0 || cols == 0) return;
  const dim3 grid(static_cast<unsigned>(std::min((cols + kThreads - 1) / kThreads, kMaxGridCols)),
                  static_cast<unsigned>(std::min(rows, kMaxGridRows)));
  Launch(ForEachKernel<F>, grid, dim3(kThreads), 0, stream, rows, cols, f);
}

// Conversions round once, to nearest even.

// The float next to value whose last bit is 1, unless value is a float: rounding that to a half
// equals rounding value itself.
__device__ float RoundToOdd(double value) {
  const float nearest = __double2float_rn(value);
  const double back = nearest;
  if (back == value || value != value) return nearest;
  unsigned bits = __float_as_uint(nearest);
  if (fabs(back) > fabs(value)) --bits;
  return __uint_as_float(bits | 1u);
}

__device__ void Cast(double from, double* to) { *to = from; }
__device__ void Cast(double from, float* to) { *to = __double2float_rn(from); }
__device__ void Cast(double from, __half* to) { *to = __float2half_rn(RoundToOdd(from)); }
__device__ void Cast(double from, __nv_bfloat16* to) {
  *to = __float2bfloat16_rn(RoundToOdd(from));
}
__device__ void Cast(float from, double* to) { *to = from; }
__device__ void Cast(float from, float* to) { *to = from; }
__device__ void Cast(float from, __half* to) { *to = __float2half_rn(from); }
__device__ void Cast(float from, __nv_bfloat16* to) { *to = __float2bfloat16_rn(from); }
__device__ void Cast(int32_t from, int32_t* to) { *to = from; }
template <typename T>
__device__ void Cast(__half from, T* to) {
  Cast(__half2float(from), to);
}
template <typename T>
__device__ void Cast(__nv_bfloat16 from, T* to) {
  Cast(__bfloat162float(from), to);
}
// Without a round trip, which would quieten a NaN.
__device__ void Cast(__half from, __half* to) { *to = from; }
__device__ void Cast(__nv_bfloat16 from, __nv_bfloat16* to) { *to = from; }

// A matrix's elements counted along its rows.
template <typename T>
struct Run {
  T* data;
  int64_t cols, stride, begin;
  bool contiguous;
  __device__ T& operator()(int64_t k) const {
    const int64_t at = begin + k;
    return data[contiguous ? at : at / cols * stride + at % cols];
  }
};

template <typename T>
Run<T> RunOf(const MatrixRef& x, int64_t begin) {
  return {x.as<T>(), x.cols, x.stride, begin, x.contiguous()};
}

template <typename From, typename To>
__global__ void ConvertKernel(Run<From> from, Run<To> to, int64_t count) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t k = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; k < count; k += step) {
    Cast(from(k), &to(k));
  }
}

template <typename From, typename To>
void ConvertAs(const MatrixRef& from, int64_t from_begin, const MatrixRef& to, int64_t to_begin,
               int64_t count, cudaStream_t stream) {
  const auto blocks =
      static_cast<unsigned>(std::min((count + kThreads - 1) / kThreads, kMaxGridCols));
  Launch(ConvertKernel<From, To>, dim3(blocks), dim3(kThreads), 0, stream,
         RunOf<From>(from, from_begin), RunOf<To>(to, to_begin), count);
}

template <typename From>
void ConvertFrom(const MatrixRef& from, int64_t from_begin, const MatrixRef& to, int64_t to_begin,
                 int64_t count, cudaStream_t stream) {
  switch (to.dtype) {
    case DType::kF64:
      return ConvertAs<From, double>(from, from_begin, to, to_begin, count, stream);
    case DType::kF32:
      return ConvertAs<From, float>(from, from_begin, to, to_begin, count, stream);
    case DType::kF16:
      return ConvertAs<From, __half>(from, from_begin, to, to_begin, count, stream);
    case DType::kBF16:
      return ConvertAs<From, __nv_bfloat16>(from, from_begin, to, to_begin, count, stream);
    case DType::kI32:
      return;  // checked before: only from itself
  }
}

// An infinity in a row would spoil the whole product; a NaN shall.
__device__ float Saturated(float x, const __half*) {
  constexpr float kMost = 65504.0f;
  return x > kMost ? kMost : x < -kMost ? -kMost : x;
}
__device__ float Saturated(float x, const __nv_bfloat16*) { return x; }

template <typename T>
struct alignas(4 * sizeof(T)) Four {
  T x, y, z, w;
};

template <typename T>
void RoundAs(const MatrixRef& from, const MatrixRef& to, cudaStream_t stream) {
  const auto at = At<float>(from);
  const auto out = At<T>(to);
  const bool fours = from.cols % 4 == 0 && from.stride % 4 == 0 && to.stride % 4 == 0 &&
                     reinterpret_cast<uintptr_t>(from.data) % sizeof(float4) == 0 &&
                     reinterpret_cast<uintptr_t>(to.data) % sizeof(Four<T>) == 0;
  if (!fours) {
    ForEach(from.rows, from.cols, stream, [=] __device__(int64_t i, int64_t j) {
      Cast(Saturated(at(i, j), static_cast<const T*>(nullptr)), &out(i, j));
    });
    return;
  }
  ForEach(from.rows, from.cols / 4, stream, [=] __device__(int64_t i, int64_t j) {
    const float4 in = reinterpret_cast<const float4*>(at.row(i))[j];
    const T* const type = nullptr;
    Four<T> four;
    Cast(Saturated(in.x, type), &four.x);
    Cast(Saturated(in.y, type), &four.y);
    Cast(Saturated(in.z, type), &four.z);
    Cast(Saturated(in.w, type), &four.w);
    reinterpret_cast<Four<T>*>(out.row(i))[j] = four;
  });
}

// to[j, i] = from[i, j] through a tile, so that both sides go along rows.
__global__ void TransposeKernel(Strided<double> from, int64_t rows, int64_t cols,
                                Strided<double> to) {
  __shared__ double tile[kTile][kTile + 1];
  const int64_t j = int64_t{blockIdx.x} * kTile, tiles = (rows + kTile - 1) / kTile;
  const int x = static_cast<int>(threadIdx.x);
  for (int64_t t = blockIdx.y; t < tiles; t += gridDim.y) {
    const int64_t i = t * kTile;
    for (int y = static_cast<int>(threadIdx.y); y < kTile; y += kTileRows) {
      if (i + y < rows && j + x < cols) tile[y][x] = from(i + y, j + x);
    }
    __syncthreads();
    for (int y = static_cast<int>(threadIdx.y); y < kTile; y += kTileRows) {
      if (j + y < cols && i + x < rows) to(j + y, i + x) = tile[x][y];
    }
    __syncthreads();
  }
}

// Tile (row, column) of the upper triangle from tile (column, row) of the lower.
__global__ void MirrorKernel(Strided<double> a, int64_t n) {
  __shared__ double tile[kTile][kTile + 1];
  const int64_t j = int64_t{blockIdx.x} * kTile;
  const int x = static_cast<int>(threadIdx.x);
  for (int64_t i = int64_t{blockIdx.y} * kTile; i <= j; i += int64_t{gridDim.y} * kTile) {
    for (int y = static_cast<int>(threadIdx.y); y < kTile; y += kTileRows) {
      if (j + y < n && i + x < n) tile[y][x] = a(j + y, i + x);
    }
    __syncthreads();
    for (int y = static_cast<int>(threadIdx.y); y < kTile; y += kTileRows) {
      if (i + y < j + x && j + x < n) a(i + y, j + x) = tile[x][y];
    }
    __syncthreads();
  }
}

dim3 TileGrid(int64_t rows, int64_t cols) {
  return dim3(static_cast<unsigned>((cols + kTile - 1) / kTile),
              static_cast<unsigned>(std::min((rows + kTile - 1) / kTile, kMaxGridRows)));
}

template <typename T>
void AddAs(T alpha, const MatrixRef& x, const MatrixRef& y, cudaStream_t stream) {
  const auto from = At<T>(x), to = At<T>(y);
  ForEach(x.rows, x.cols, stream,
          [=] __device__(int64_t i, int64_t j) { to(i, j) += alpha * from(i, j); });
}

__device__ float Activated(Activation activation, float x) {
  switch (activation) {
    case Activation::kSilu:
      return x / (1.0f + expf(-x));
    case Activation::kGelu:
      return 0.5f * x * (1.0f + erff(x * 0.707106781f));
    case Activation::kGeluTanh:
      return 0.5f * x * (1.0f + tanhf(0.797884561f * (x + 0.044715f * x * x * x)));
    case Activation::kRelu:
      return x < 0.0f ? 0.0f : x;  // a NaN stays one
  }
  return x;
}

}  // namespace

void Convert(MatrixRef from, int64_t from_begin, MatrixRef to, int64_t to_begin, int64_t count,
             cudaStream_t stream) {
  if (count == 0) return;
  switch (from.dtype) {
    case DType::kF64:
      return ConvertFrom<double>(from, from_begin, to, to_begin, count, stream);
    case DType::kF32:
      return ConvertFrom<float>(from, from_begin, to, to_begin, count, stream);
    case DType::kF16:
      return ConvertFrom<__half>(from, from_begin, to, to_begin, count, stream);
    case DType::kBF16:
      return ConvertFrom<__nv_bfloat16>(from, from_begin, to, to_begin, count, stream);
    case DType::kI32:
      return ConvertAs<int32_t, int32_t>(from, from_begin, to, to_begin, count, stream);
  }
}

void Transpose(MatrixRef from, MatrixRef to, cudaStream_t stream) {
  if (from.size() == 0) return;
  Launch(TransposeKernel, TileGrid(from.rows, from.cols), dim3(kTile, kTileRows), 0, stream,
         At<double>(from), from.rows, from.cols, At<double>(to));
}

void MirrorLower(MatrixRef a, cudaStream_t stream) {
  if (a.size() == 0) return;
  Launch(MirrorKernel, TileGrid(a.rows, a.cols), dim3(kTile, kTileRows), 0, stream, At<double>(a),
         a.rows);
}

void Round(MatrixRef from, MatrixRef to, cudaStream_t stream) {
  if (to.dtype == DType::kF16) {
    RoundAs<__half>(from, to, stream);
  } else {
    RoundAs<__nv_bfloat16>(from, to, stream);
  }
}

void AddToDouble(MatrixRef x, MatrixRef sum, int64_t diagonal, cudaStream_t stream) {
  const auto from = At<float>(x);
  const auto to = At<double>(sum);
  ForEach(x.rows, x.cols, stream, [=] __device__(int64_t i, int64_t j) {
    if (j <= i + diagonal) to(i, j) += from(i, j);
  });
}

void ScaleRows(MatrixRef x, MatrixRef scale, cudaStream_t stream) {
  const auto at = At<double>(x);
  const double* by = scale.as<double>();
  ForEach(x.rows, x.cols, stream, [=] __device__(int64_t i, int64_t j) { at(i, j) *= by[i]; });
}

void ScaleCols(MatrixRef x, MatrixRef scale, cudaStream_t stream) {
  const auto at = At<double>(x);
  const double* by = scale.as<double>();
  ForEach(x.rows, x.cols, stream, [=] __device__(int64_t i, int64_t j) { at(i, j) *= by[j]; });
}

void AddBias(MatrixRef y, MatrixRef bias, cudaStream_t stream) {
  const auto at = At<float>(y);
  const float* by = bias.as<float>();
  ForEach(y.rows, y.cols, stream, [=] __device__(int64_t i, int64_t j) { at(i, j) += by[j]; });
}

void Add(double alpha, MatrixRef x, MatrixRef y, cudaStream_t stream) {
  if (x.dtype == DType::kF64) {
    AddAs<double>(alpha, x, y, stream);
  } else {
    AddAs<float>(static_cast<float>(alpha), x, y, stream);
  }
}

void Activate(Activation activation, MatrixRef gate, MatrixRef up, cudaStream_t stream) {
  const auto to = At<float>(gate), by = At<float>(up);
  ForEach(gate.rows, gate.cols, stream, [=] __device__(int64_t i, int64_t j) {
    const float g = Activated(activation, to(i, j));
    to(i, j) = by.data == nullptr ? g : g * by(i, j);
  });
}

void SoftCap(MatrixRef x, double cap, cudaStream_t stream) {
  const auto at = At<float>(x);
  const auto most = static_cast<float>(cap);
  ForEach(x.rows, x.cols, stream,
          [=] __device__(int64_t i, int64_t j) { at(i, j) = most * tanhf(at(i, j) / most); });
}

void GatherCols(MatrixRef x, MatrixRef order, MatrixRef y, cudaStream_t stream) {
  const auto from = At<float>(x), to = At<float>(y);
  const int32_t* column = order.as<int32_t>();
  ForEach(y.rows, y.cols, stream,
          [=] __device__(int64_t i, int64_t j) { to(i, j) = from(i, column[j]); });
}

void Rope(MatrixRef x, int64_t heads, MatrixRef cosines, MatrixRef sines, const int64_t* offsets,
          const int64_t* first_position, int64_t sequences, cudaStream_t stream) {
  const auto at = At<float>(x), cosine = At<float>(cosines), sine = At<float>(sines);
  const int64_t half = cosines.cols, head_dim = x.cols / heads;
  ForEach(x.rows, heads * half, stream, [=] __device__(int64_t t, int64_t j) {
    // The last sequence that begins at or before t; an empty one begins where the next does.
    int64_t low = 0, high = sequences;
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      if (offsets[middle] <= t) {
        low = middle;
      } else {
        high = middle;
      }
    }
    const int64_t start = first_position == nullptr ? 0 : first_position[low];
    const int64_t position = start + t - offsets[low], i = j % half;
    const int64_t first = j / half * head_dim + i, second = first + half;
    const float a = at(t, first), b = at(t, second);
    const float c = cosine(position, i), s = sine(position, i);
    at(t, first) = a * c - b * s;
    at(t, second) = b * c + a * s;
  });
}

void UpperOfTranspose(MatrixRef from, MatrixRef r, cudaStream_t stream) {
  const auto at = At<double>(from), to = At<double>(r);
  ForEach(r.rows, r.cols, stream,
          [=] __device__(int64_t i, int64_t j) { to(i, j) = j < i ? 0.0 : at(j, i); });
}

void PickCols(MatrixRef from, const int32_t* columns, MatrixRef to, cudaStream_t stream) {
  const auto at = At<double>(from), out = At<double>(to);
  ForEach(to.rows, to.cols, stream,
          [=] __device__(int64_t i, int64_t j) { out(i, j) = at(i, columns[j]); });
}

void PickRows(MatrixRef from, const int32_t* rows, MatrixRef to, cudaStream_t stream) {
  const auto at = At<double>(from), out = At<double>(to);
  ForEach(to.rows, to.cols, stream,
          [=] __device__(int64_t i, int64_t j) { out(i, j) = at(rows[i], j); });
}

void PickRowsTransposed(MatrixRef from, const int32_t* rows, MatrixRef to, cudaStream_t stream) {
  const auto at = At<double>(from), out = At<double>(to);
  ForEach(to.rows, to.cols, stream,
          [=] __device__(int64_t i, int64_t j) { out(i, j) = at(rows[j], i); });
}

}  // namespace svdllm::cuda
