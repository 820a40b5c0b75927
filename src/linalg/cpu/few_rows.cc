#include "linalg/cpu/few_rows.h"

#include <algorithm>

#if defined(__x86_64__)
// The header's own undefined values, inlined (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#define SVDLLM_X86 1
#endif

namespace svdllm::cpu {
namespace {

struct Operands {
  const float* x;
  int64_t x_stride;
  const float* w;
  int64_t w_stride;
  int64_t k;
  float alpha, beta;
  float* y;
  int64_t y_stride;

  void Store(int64_t r, int64_t o, float sum) const {
    float& to = y[r * y_stride + o];
    to = beta == 0 ? alpha * sum : alpha * sum + beta * to;
  }
};

// Rows [r, r + kRows) of x with rows [o, o + kOutputs) of w, kept in registers. While a tile's sums
// are added up nothing would be read: the next tile's part of w is fetched beside the current one's
// (a prefetch past the end of memory does nothing).
#ifdef SVDLLM_X86
template <int kRows, int kOutputs>
__attribute__((target("avx512f"))) void TileAvx512(const Operands& p, int64_t r, int64_t o) {
  __m512 sums[kRows][kOutputs];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kOutputs; ++j) sums[i][j] = _mm512_setzero_ps();
  }
  const float *x = p.x + r * p.x_stride, *w = p.w + o * p.w_stride;
  int64_t begin = 0;
  for (; begin + 16 <= p.k; begin += 16) {
    __m512 xs[kRows];
    for (int i = 0; i < kRows; ++i) xs[i] = _mm512_loadu_ps(x + i * p.x_stride + begin);
    for (int j = 0; j < kOutputs; ++j) {
      const float* at = w + j * p.w_stride + begin;
      _mm_prefetch(reinterpret_cast<const char*>(at + kOutputs * p.w_stride), _MM_HINT_T0);
      const __m512 ws = _mm512_loadu_ps(at);
      for (int i = 0; i < kRows; ++i) sums[i][j] = _mm512_fmadd_ps(xs[i], ws, sums[i][j]);
    }
  }
  if (begin < p.k) {
    const auto mask = static_cast<__mmask16>((1 << (p.k - begin)) - 1);
    __m512 xs[kRows];
    for (int i = 0; i < kRows; ++i) xs[i] = _mm512_maskz_loadu_ps(mask, x + i * p.x_stride + begin);
    for (int j = 0; j < kOutputs; ++j) {
      const __m512 ws = _mm512_maskz_loadu_ps(mask, w + j * p.w_stride + begin);
      for (int i = 0; i < kRows; ++i) sums[i][j] = _mm512_fmadd_ps(xs[i], ws, sums[i][j]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kOutputs; ++j) p.Store(r + i, o + j, _mm512_reduce_add_ps(sums[i][j]));
  }
}

template <int kRows, int kOutputs>
__attribute__((target("avx2,fma"))) void TileAvx2(const Operands& p, int64_t r, int64_t o) {
  __m256 sums[kRows][kOutputs];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kOutputs; ++j) sums[i][j] = _mm256_setzero_ps();
  }
  const float *x = p.x + r * p.x_stride, *w = p.w + o * p.w_stride;
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  for (int64_t begin = 0; begin < p.k; begin += 8) {
    const auto left = static_cast<int>(std::min<int64_t>(p.k - begin, 8));
    const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(left), lanes);
    __m256 xs[kRows];
    for (int i = 0; i < kRows; ++i) xs[i] = _mm256_maskload_ps(x + i * p.x_stride + begin, mask);
    for (int j = 0; j < kOutputs; ++j) {
      const float* at = w + j * p.w_stride + begin;
      _mm_prefetch(reinterpret_cast<const char*>(at + kOutputs * p.w_stride), _MM_HINT_T0);
      const __m256 ws = _mm256_maskload_ps(at, mask);
      for (int i = 0; i < kRows; ++i) sums[i][j] = _mm256_fmadd_ps(xs[i], ws, sums[i][j]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kOutputs; ++j) {
      const __m128 half =
          _mm_add_ps(_mm256_castps256_ps128(sums[i][j]), _mm256_extractf128_ps(sums[i][j], 1));
      const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
      p.Store(r + i, o + j, _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair))));
    }
  }
}
#endif

template <int kRows, int kOutputs>
void TilePlain(const Operands& p, int64_t r, int64_t o) {
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kOutputs; ++j) {
      const float *x = p.x + (r + i) * p.x_stride, *w = p.w + (o + j) * p.w_stride;
      float lanes[8] = {};
      int64_t begin = 0;
      for (; begin + 8 <= p.k; begin += 8) {
        for (int l = 0; l < 8; ++l) lanes[l] += x[begin + l] * w[begin + l];
      }
      float sum = 0;
      for (; begin < p.k; ++begin) sum += x[begin] * w[begin];
      for (const float lane : lanes) sum += lane;
      p.Store(r + i, o + j, sum);
    }
  }
}

using Tile = void (*)(const Operands& p, int64_t r, int64_t o);
// Four rows of w at a time, by rows of x less one; and one row of w.
struct Tiles {
  Tile four[4];
  Tile one[4];
};

#define SVDLLM_TILES(name)                              \
  Tiles {                                               \
    {name<1, 4>, name<2, 4>, name<3, 4>, name<4, 4>}, { \
      name<1, 1>, name<2, 1>, name<3, 1>, name<4, 1>    \
    }                                                   \
  }

const Tiles& PickTiles() {
  static const Tiles tiles = [] {
#ifdef SVDLLM_X86
    if (__builtin_cpu_supports("avx512f")) return SVDLLM_TILES(TileAvx512);
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
      return SVDLLM_TILES(TileAvx2);
    }
#endif
    return SVDLLM_TILES(TilePlain);
  }();
  return tiles;
}

}  // namespace

void FewRows(const float* x, int64_t x_stride, int64_t rows, const float* w, int64_t w_stride,
             int64_t count, int64_t k, float alpha, float beta, float* y, int64_t y_stride) {
  const Operands p{x, x_stride, w, w_stride, k, alpha, beta, y, y_stride};
  const Tiles& tiles = PickTiles();
  // w outside: its rows come from memory, x stays in the cache.
  for (int64_t o = 0; o < count; o += 4) {
    for (int64_t r = 0; r < rows; r += 4) {
      const auto height = static_cast<size_t>(std::min<int64_t>(rows - r, 4) - 1);
      if (o + 4 <= count) {
        tiles.four[height](p, r, o);
      } else {
        for (int64_t last = o; last < count; ++last) tiles.one[height](p, r, last);
      }
    }
  }
}

}  // namespace svdllm::cpu
