#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>

#include "linalg/cuda/kernels.h"
#include "linalg/cuda/launch.cuh"

namespace svdllm::cuda {
namespace {

// A block of threads is 16 × 16: ty picks query rows, tx keys or features. The 16 threads of a row
// are half a warp.
constexpr int kSide = 16;
constexpr int kSoftmaxThreads = 256;

template <typename Op>
__device__ float HalfWarp(float value, Op op) {
  for (int offset = kSide / 2; offset > 0; offset /= 2) {
    value = op(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

__device__ float4 Load4(const float* x) { return *reinterpret_cast<const float4*>(x); }

struct AttentionArguments {
  Strided<float> q, k, v, out;
  const int64_t* offsets;
  const KeyRange* keys;
  int64_t sequences;
  int64_t blocks;  // of query rows, of the longest sequence
  int64_t window;  // 0: none
  int group;       // query heads a key head
  int head_dim;
  float scale, softcap;
};

__device__ float Score(float product, float scale, float softcap) {
  const float score = product * scale;
  return softcap > 0 ? softcap * tanhf(score / softcap) : score;
}

// The first key that the query behind `before` keys sees.
__device__ int64_t FirstKey(int64_t before, int64_t window) {
  return window > 0 && before >= window ? before - window + 1 : 0;
}

// Rows [first, first + kRows) of one sequence's head into shared memory; zeros beyond count rows
// and head_dim columns.
template <int kRows, int kDim, int kPitch>
__device__ void LoadTile(const Strided<float>& x, int64_t row, int64_t column, int64_t count,
                         int head_dim, float* tile) {
  const int thread = static_cast<int>(threadIdx.y * kSide + threadIdx.x);
  for (int at = thread; at < kRows * kDim; at += kSide * kSide) {
    const int r = at / kDim, c = at % kDim;
    tile[r * kPitch + c] = r < count && c < head_dim ? x(row + r, column + c) : 0.0f;
  }
}

// kQueries query rows against kKeys keys at a time, with the softmax carried along: what a row has
// summed up so far is rescaled when a larger score turns up. Scores exist a tile at a time. kDim is
// head_dim rounded up; tiles have 4 floats more a row, so that reads of 4 hit different banks.
template <int kQueries, int kKeys, int kDim>
__global__ void __launch_bounds__(kSide* kSide) AttentionKernel(AttentionArguments a) {
  constexpr int kPitch = kDim + 4, kScorePitch = kKeys + 4;
  constexpr int kRowsEach = kQueries / kSide, kKeysEach = kKeys / kSide,
                kFours = kDim / (4 * kSide);
  float* const queries = DynamicShared<float>();
  float* const keys = queries + kQueries * kPitch;  // and the values after them
  float* const scores = keys + kKeys * kPitch;

  const int64_t of_head = a.blocks * a.sequences;  // blocks
  const int64_t sequence = blockIdx.x % of_head / a.blocks;
  // The last rows have the most keys: they start first.
  const int64_t first = (a.blocks - 1 - blockIdx.x % a.blocks) * kQueries;
  const int64_t begin = a.offsets[sequence], length = a.offsets[sequence + 1] - begin;
  if (first >= length) return;
  const int64_t head = blockIdx.x / of_head;
  const int64_t query_column = head * a.head_dim, key_column = head / a.group * a.head_dim;
  const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y);

  const KeyRange range = a.keys[sequence];
  const int64_t past = range.count - length;  // query i is behind past + i keys
  LoadTile<kQueries, kDim, kPitch>(a.q, begin + first, query_column, length - first, a.head_dim,
                                   queries);
  float4 sums[kRowsEach][kFours];
  float largest[kRowsEach], weight[kRowsEach];
  for (int r = 0; r < kRowsEach; ++r) {
    for (int f = 0; f < kFours; ++f) sums[r][f] = make_float4(0, 0, 0, 0);
    largest[r] = -INFINITY;
    weight[r] = 0;
  }
  const int64_t visible = past + (first + kQueries < length ? first + kQueries : length);
  for (int64_t key = FirstKey(past + first, a.window); key < visible; key += kKeys) {
    __syncthreads();  // the values of the last tile have been read
    LoadTile<kKeys, kDim, kPitch>(a.k, range.first + key, key_column, range.count - key, a.head_dim,
                                  keys);
    __syncthreads();
    float score[kRowsEach][kKeysEach] = {};
#pragma unroll 4
    for (int d = 0; d < kDim; d += 4) {
      float4 column[kKeysEach];
      for (int c = 0; c < kKeysEach; ++c) column[c] = Load4(keys + (tx + kSide * c) * kPitch + d);
      for (int r = 0; r < kRowsEach; ++r) {
        const float4 row = Load4(queries + (ty * kRowsEach + r) * kPitch + d);
        for (int c = 0; c < kKeysEach; ++c) {
          score[r][c] +=
              row.x * column[c].x + row.y * column[c].y + row.z * column[c].z + row.w * column[c].w;
        }
      }
    }
    for (int r = 0; r < kRowsEach; ++r) {
      const int64_t before = past + first + ty * kRowsEach + r;
      const int64_t first_key = FirstKey(before, a.window);
      float tile_largest = -INFINITY;
      for (int c = 0; c < kKeysEach; ++c) {
        const int64_t at = key + tx + kSide * c;
        score[r][c] = at >= first_key && at <= before && at < range.count
                          ? Score(score[r][c], a.scale, a.softcap)
                          : -INFINITY;
        tile_largest = fmaxf(tile_largest, score[r][c]);
      }
      const float before_tile = largest[r];
      tile_largest = HalfWarp(tile_largest, [](float x, float y) { return fmaxf(x, y); });
      largest[r] = fmaxf(largest[r], tile_largest);
      // A row whose window begins behind the tile has seen nothing yet.
      const float now = largest[r] == -INFINITY ? 0.0f : largest[r];
      const float rescale = expf(before_tile - now);
      float tile_weight = 0;
      for (int c = 0; c < kKeysEach; ++c) {
        const float p = expf(score[r][c] - now);
        scores[(ty * kRowsEach + r) * kScorePitch + tx + kSide * c] = p;
        tile_weight += p;
      }
      tile_weight = HalfWarp(tile_weight, [](float x, float y) { return x + y; });
      weight[r] = weight[r] * rescale + tile_weight;
      for (int f = 0; f < kFours; ++f) {
        sums[r][f].x *= rescale;
        sums[r][f].y *= rescale;
        sums[r][f].z *= rescale;
        sums[r][f].w *= rescale;
      }
    }
    __syncthreads();  // the keys have been read, the scores written
    LoadTile<kKeys, kDim, kPitch>(a.v, range.first + key, key_column, range.count - key, a.head_dim,
                                  keys);
    __syncthreads();
    for (int t = 0; t < kKeys; ++t) {
      float4 value[kFours];
      for (int f = 0; f < kFours; ++f) value[f] = Load4(keys + t * kPitch + 4 * (tx + kSide * f));
      for (int r = 0; r < kRowsEach; ++r) {
        const float p = scores[(ty * kRowsEach + r) * kScorePitch + t];
        for (int f = 0; f < kFours; ++f) {
          sums[r][f].x += p * value[f].x;
          sums[r][f].y += p * value[f].y;
          sums[r][f].z += p * value[f].z;
          sums[r][f].w += p * value[f].w;
        }
      }
    }
  }
  for (int r = 0; r < kRowsEach; ++r) {
    const int64_t query = first + ty * kRowsEach + r;
    if (query >= length) continue;
    float* out = a.out.row(begin + query) + query_column;
    const float by = 1.0f / weight[r];
    for (int f = 0; f < kFours; ++f) {
      const int d = 4 * (tx + kSide * f);
      const float four[4] = {sums[r][f].x, sums[r][f].y, sums[r][f].z, sums[r][f].w};
      for (int e = 0; e < 4; ++e) {
        if (d + e < a.head_dim) out[d + e] = four[e] * by;
      }
    }
  }
}

template <int kQueries, int kKeys, int kDim>
void LaunchAttention(AttentionArguments a, int64_t heads, int64_t longest, cudaStream_t stream) {
  constexpr int kBytes =
      static_cast<int>(sizeof(float)) * ((kQueries + kKeys) * (kDim + 4) + kQueries * (kKeys + 4));
  const auto kernel = AttentionKernel<kQueries, kKeys, kDim>;
  // More than a kernel gets unasked, and at most what the smallest architecture has, 64 KiB.
  static_assert(kBytes <= 65536);
  if (cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                           cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes) != cudaSuccess) {
    return;  // the error stays for cudaGetLastError()
  }
  a.blocks = (longest + kQueries - 1) / kQueries;
  Launch(kernel, dim3(static_cast<unsigned>(a.blocks * a.sequences * heads)), dim3(kSide, kSide),
         kBytes, stream, a);
}

constexpr int kSingleWarps = 16;
constexpr int kLaneDims = static_cast<int>(kMaxHeadDim) / kWarp;

// The only query of a sequence: every warp goes over a share of the keys with a softmax of its own,
// and the shares are put together at the end.
__global__ void __launch_bounds__(kSingleWarps* kWarp) SingleAttentionKernel(AttentionArguments a) {
  __shared__ float all_sums[kSingleWarps][kMaxHeadDim];
  __shared__ float all_largest[kSingleWarps], all_weight[kSingleWarps];
  const int64_t sequence = blockIdx.x % a.sequences, head = blockIdx.x / a.sequences;
  const int64_t row = a.offsets[sequence];
  if (a.offsets[sequence + 1] == row) return;
  const KeyRange range = a.keys[sequence];
  const int64_t query_column = head * a.head_dim, key_column = head / a.group * a.head_dim;
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const float* query = a.q.row(row) + query_column;
  float mine[kLaneDims], sums[kLaneDims] = {};
  for (int e = 0; e < kLaneDims; ++e) {
    const int d = lane + kWarp * e;
    mine[e] = d < a.head_dim ? query[d] : 0.0f;
  }
  float largest = -INFINITY, weight = 0;
  for (int64_t t = FirstKey(range.count - 1, a.window) + warp; t < range.count; t += kSingleWarps) {
    const float* key = a.k.row(range.first + t) + key_column;
    const float* value = a.v.row(range.first + t) + key_column;
    float score = 0;
    for (int e = 0; e < kLaneDims; ++e) {
      const int d = lane + kWarp * e;
      if (d < a.head_dim) score += mine[e] * key[d];
    }
    for (int offset = kWarp / 2; offset > 0; offset /= 2) {
      score += __shfl_xor_sync(0xffffffffu, score, offset);
    }
    score = Score(score, a.scale, a.softcap);
    const float now = fmaxf(largest, score);
    const float rescale = expf(largest - now), p = expf(score - now);
    largest = now;
    weight = weight * rescale + p;
    for (int e = 0; e < kLaneDims; ++e) {
      const int d = lane + kWarp * e;
      if (d < a.head_dim) sums[e] = sums[e] * rescale + p * value[d];
    }
  }
  for (int e = 0; e < kLaneDims; ++e) all_sums[warp][lane + kWarp * e] = sums[e];
  if (lane == 0) all_largest[warp] = largest, all_weight[warp] = weight;
  __syncthreads();
  float overall = -INFINITY, total = 0;  // a warp without keys has −infinity: a factor of 0
  for (int w = 0; w < kSingleWarps; ++w) overall = fmaxf(overall, all_largest[w]);
  for (int w = 0; w < kSingleWarps; ++w) total += all_weight[w] * expf(all_largest[w] - overall);
  for (int d = warp * kWarp + lane; d < a.head_dim; d += kSingleWarps * kWarp) {
    float sum = 0;
    for (int w = 0; w < kSingleWarps; ++w) sum += all_sums[w][d] * expf(all_largest[w] - overall);
    a.out.row(row)[query_column + d] = sum / total;
  }
}

struct SoftmaxArguments {
  const float* scores;
  int64_t heads, before, rows, count, tile_rows, pitch, window;
  float scale, softcap;
};

__device__ void Store(float from, float* to) { *to = from; }
__device__ void Store(float from, __half* to) { *to = __float2half_rn(from); }
__device__ void Store(float from, __nv_bfloat16* to) { *to = __float2bfloat16_rn(from); }

// A block a row of a head.
template <typename T>
__global__ void __launch_bounds__(kSoftmaxThreads) SoftmaxKernel(SoftmaxArguments a, T* weights) {
  const int64_t row = blockIdx.x % a.rows, head = blockIdx.x / a.rows;
  const float* scores = a.scores + (head * a.tile_rows + row) * a.pitch;
  T* to = weights + (head * a.tile_rows + row) * a.pitch;
  const int64_t last = a.before + row, first = FirstKey(last, a.window);
  float largest = -INFINITY;
  for (int64_t t = first + threadIdx.x; t <= last; t += kSoftmaxThreads) {
    largest = fmaxf(largest, Score(scores[t], a.scale, a.softcap));
  }
  largest = BlockReduce(largest, -INFINITY, [](float x, float y) { return fmaxf(x, y); });
  float sum = 0;
  for (int64_t t = first + threadIdx.x; t <= last; t += kSoftmaxThreads) {
    sum += expf(Score(scores[t], a.scale, a.softcap) - largest);
  }
  const float by = 1.0f / BlockSum(sum);
  for (int64_t t = threadIdx.x; t < a.count; t += kSoftmaxThreads) {
    const bool sees = t >= first && t <= last;
    Store(sees ? expf(Score(scores[t], a.scale, a.softcap) - largest) * by : 0.0f, to + t);
  }
}

template <typename T>
void LaunchSoftmax(const SoftmaxArguments& a, void* weights, cudaStream_t stream) {
  Launch(SoftmaxKernel<T>, dim3(static_cast<unsigned>(a.rows * a.heads)), dim3(kSoftmaxThreads), 0,
         stream, a, static_cast<T*>(weights));
}

}  // namespace

void Softmax(const float* scores, const AttentionShape& shape, int64_t before, int64_t rows,
             int64_t count, int64_t tile_rows, int64_t pitch, void* weights, DType dtype,
             cudaStream_t stream) {
  const SoftmaxArguments a{scores,
                           shape.heads,
                           before,
                           rows,
                           count,
                           tile_rows,
                           pitch,
                           shape.window,
                           static_cast<float>(shape.scale),
                           static_cast<float>(shape.softcap)};
  switch (dtype) {
    case DType::kF16:
      return LaunchSoftmax<__half>(a, weights, stream);
    case DType::kBF16:
      return LaunchSoftmax<__nv_bfloat16>(a, weights, stream);
    default:
      return LaunchSoftmax<float>(a, weights, stream);
  }
}

void Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
               const int64_t* offsets, const KeyRange* keys, int64_t sequences, int64_t longest,
               MatrixRef out, cudaStream_t stream) {
  if (q.size() == 0) return;
  const AttentionArguments a{At<float>(q),
                             At<float>(k),
                             At<float>(v),
                             At<float>(out),
                             offsets,
                             keys,
                             sequences,
                             0,
                             shape.window,
                             static_cast<int>(shape.heads / shape.kv_heads),
                             static_cast<int>(shape.head_dim),
                             static_cast<float>(shape.scale),
                             static_cast<float>(shape.softcap)};
  if (longest == 1) {
    Launch(SingleAttentionKernel, dim3(static_cast<unsigned>(sequences * shape.heads)),
           dim3(kWarp, kSingleWarps), 0, stream, a);
  } else if (shape.head_dim <= 64) {
    LaunchAttention<64, 64, 64>(a, shape.heads, longest, stream);
  } else if (shape.head_dim <= 128) {
    LaunchAttention<64, 32, 128>(a, shape.heads, longest, stream);
  } else {
    LaunchAttention<32, 16, 256>(a, shape.heads, longest, stream);
  }
}

}  // namespace svdllm::cuda
