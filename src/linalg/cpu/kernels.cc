#include "linalg/cpu/kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

// Sanitizer builds cannot resolve the clones' ifuncs before their run time is up; clang has no
// clones that are optimised in their own way.
#if defined(__x86_64__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define SVDLLM_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), optimize("O3")))
#else
#define SVDLLM_CLONES
#endif

namespace svdllm::cpu {
namespace {

// exp(x) to about 1 ulp by 2^n · polynomial(r), r = x − n·ln2: inlined into the loops it
// vectorises, which the library's function does not without -ffast-math. Saturates: exp(−inf) = 0
// and large arguments give infinity; NaN stays NaN.
inline __attribute__((always_inline)) float Exp(float x) {
  constexpr float kLog2E = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f;
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kMagic = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer
  const float clamped = x < -87.3f ? -87.3f : (x > 88.7f ? 88.7f : x);
  const float shifted = clamped * kLog2E + kMagic;
  const float n = shifted - kMagic;
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  // Two factors of 2^(n/2): 2^128 is not a float, exp(88.7) is.
  const int32_t bits = static_cast<int32_t>(n);
  const int32_t half = bits >> 1;
  const int32_t a = (half + 127) << 23, b = (bits - half + 127) << 23;
  float fa, fb;
  std::memcpy(&fa, &a, 4);
  std::memcpy(&fb, &b, 4);
  const float y = p * fa * fb;
  return x < -87.3f ? 0.0f
                    : (x > 88.7f ? std::numeric_limits<float>::infinity() : (x == x ? y : x));
}

// To about 2 ulp: from exp where that does not cancel, by its series near 0.
inline __attribute__((always_inline)) float Tanh(float x) {
  const float magnitude = std::fabs(x), square = x * x;
  const float e = Exp(-2.0f * magnitude);
  const float large = (1.0f - e) / (1.0f + e);
  float p = 0.0218694885f;  // 62/2835
  p = p * square - 0.0539682540f;
  p = p * square + 0.1333333333f;
  p = p * square - 0.3333333333f;
  const float small = p * square * magnitude + magnitude;
  return std::copysign(magnitude < 0.3f ? small : large, x);
}

// Sums in F64 over independent lanes, so that the order is fixed and the loop vectorises.
constexpr int kLanes = 16;

template <typename F>
inline __attribute__((always_inline)) double LaneSum(int64_t n, F term) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] += static_cast<double>(term(i + l));
  }
  double sum = 0;
  for (; i < n; ++i) sum += static_cast<double>(term(i));
  for (const double lane : lanes) sum += lane;
  return sum;
}

inline __attribute__((always_inline)) float Max(const float* x, int64_t n) {
  float lanes[kLanes];
  std::fill(lanes, lanes + kLanes, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
  }
  float max = lanes[0];
  for (int l = 1; l < kLanes; ++l) max = std::max(max, lanes[l]);
  for (; i < n; ++i) max = std::max(max, x[i]);
  return max;
}

// gate = f(gate) · up, or without up where that is null.
template <typename F>
inline __attribute__((always_inline)) void Gate(float* gate, const float* up, int64_t n, F f) {
  if (up == nullptr) {
    for (int64_t i = 0; i < n; ++i) gate[i] = f(gate[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) gate[i] = f(gate[i]) * up[i];
  }
}

}  // namespace

SVDLLM_CLONES void RmsNormRow(const float* x, const float* weight, int64_t n, double eps,
                              float* y) {
  const double sum = LaneSum(n, [x](int64_t i) { return x[i] * x[i]; });
  const float scale = static_cast<float>(1.0 / std::sqrt(sum / static_cast<double>(n) + eps));
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * scale * weight[i];
}

SVDLLM_CLONES void LayerNormRow(const float* x, const float* weight, const float* bias, int64_t n,
                                double eps, float* y) {
  const double mean = LaneSum(n, [x](int64_t i) { return x[i]; }) / static_cast<double>(n);
  const double sum = LaneSum(n, [x, mean](int64_t i) {
    const double off = static_cast<double>(x[i]) - mean;
    return off * off;
  });
  const double scale = 1.0 / std::sqrt(sum / static_cast<double>(n) + eps);
  for (int64_t i = 0; i < n; ++i) {
    y[i] = static_cast<float>((static_cast<double>(x[i]) - mean) * scale) * weight[i] + bias[i];
  }
}

SVDLLM_CLONES void GatherRow(const float* x, const int32_t* order, int64_t n, float* y) {
  for (int64_t j = 0; j < n; ++j) y[j] = x[order[j]];
}

SVDLLM_CLONES void AddRow(const float* x, int64_t n, float factor, float* y) {
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

SVDLLM_CLONES void ActivateRow(Activation activation, float* gate, const float* up, int64_t n) {
  switch (activation) {
    case Activation::kSilu:
      return Gate(gate, up, n, [](float x) { return x / (1.0f + Exp(-x)); });
    case Activation::kGelu:
      return Gate(gate, up, n,
                  [](float x) { return 0.5f * x * (1.0f + std::erf(x * 0.707106781f)); });
    case Activation::kGeluTanh:
      return Gate(gate, up, n, [](float x) {
        return 0.5f * x * (1.0f + Tanh(0.797884561f * (x + 0.044715f * x * x * x)));
      });
    case Activation::kRelu:
      return Gate(gate, up, n, [](float x) { return x < 0.0f ? 0.0f : x; });  // a NaN stays one
  }
}

SVDLLM_CLONES void SoftCapRow(float* x, int64_t n, float scale, float cap) {
  const float inner = scale / cap;
  for (int64_t i = 0; i < n; ++i) x[i] = cap * Tanh(x[i] * inner);
}

SVDLLM_CLONES void RopeRow(float* x, const float* cosines, const float* sines, int64_t half) {
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cosines[i] - b * sines[i];
    x[i + half] = b * cosines[i] + a * sines[i];
  }
}

SVDLLM_CLONES float ExpRow(float* x, int64_t n, float scale) {
  const float max = Max(x, n);
  for (int64_t i = 0; i < n; ++i) x[i] = Exp(scale * (x[i] - max));
  return static_cast<float>(LaneSum(n, [x](int64_t i) { return x[i]; }));
}

SVDLLM_CLONES void ScaleRow(float* x, int64_t n, float factor) {
  for (int64_t i = 0; i < n; ++i) x[i] *= factor;
}

SVDLLM_CLONES double LogSumExp(const float* x, int64_t n) {
  const float max = Max(x, n);
  const double sum = LaneSum(n, [x, max](int64_t i) { return Exp(x[i] - max); });
  return static_cast<double>(max) + std::log(sum);
}

SVDLLM_CLONES double KlDivergence(const float* p, const float* q, int64_t n) {
  const float max = Max(p, n), q_max = Max(q, n);
  const double sum = LaneSum(n, [p, max](int64_t i) { return Exp(p[i] - max); });
  const double drift =
      LaneSum(n, [p, q, max](int64_t i) { return Exp(p[i] - max) * (p[i] - q[i]); });
  const double q_sum = LaneSum(n, [q, q_max](int64_t i) { return Exp(q[i] - q_max); });
  // Σ p (log p − log q), the logarithms of both normalisers taken out.
  return drift / sum + static_cast<double>(q_max) - static_cast<double>(max) +
         std::log(q_sum / sum);
}

SVDLLM_CLONES void AddToDouble(const float* x, int64_t n, double* sum) {
  for (int64_t i = 0; i < n; ++i) sum[i] += static_cast<double>(x[i]);
}

SVDLLM_CLONES void AddAbsToDouble(const float* x, int64_t n, double* sum) {
  for (int64_t i = 0; i < n; ++i) sum[i] += static_cast<double>(std::fabs(x[i]));
}

// x − x is 0 for finite x and NaN otherwise; a sum of zeros vectorises, a chain of tests does not.
SVDLLM_CLONES bool AllFinite(const float* x, int64_t n) {
  return LaneSum(n, [x](int64_t i) { return x[i] - x[i]; }) == 0.0;
}

SVDLLM_CLONES bool AllFinite(const double* x, int64_t n) {
  return LaneSum(n, [x](int64_t i) { return x[i] - x[i]; }) == 0.0;
}

}  // namespace svdllm::cpu
