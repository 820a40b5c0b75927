#include "linalg/dtype.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

// clang 14 cannot ask a processor for f16c.
#if defined(__x86_64__) && !defined(__clang__)
#include <immintrin.h>
#define SVDLLM_X86 1
#endif

namespace svdllm {
namespace {

// Elements a task converts at a time: large enough to hide a task's cost, small enough that two
// threads share even a small matrix.
constexpr size_t kChunk = size_t{1} << 16;
// Elements that pass through a buffer of floats where a conversion takes two steps.
constexpr size_t kBuffer = 512;

// Buffers may lie at any byte: tensors of a file are not aligned to their elements.
template <typename T>
T Load(const void* base, size_t i) {
  T value;
  std::memcpy(&value, static_cast<const std::byte*>(base) + i * sizeof(T), sizeof(T));
  return value;
}

template <typename T>
void Store(void* base, size_t i, T value) {
  std::memcpy(static_cast<std::byte*>(base) + i * sizeof(T), &value, sizeof(T));
}

constexpr uint32_t kF32Infinity = 0x7f800000;

float Bf16ToF32(uint16_t half) { return std::bit_cast<float>(static_cast<uint32_t>(half) << 16); }

uint16_t F32ToBf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > kF32Infinity) {  // rounding could carry a NaN into infinity
    return static_cast<uint16_t>((bits >> 16) | 0x40);
  }
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float F16ToF32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 31;
  const uint32_t mantissa = half & 0x3ff;
  if (exponent == 0) {  // zero or subnormal: an integer times 2^-24, exact
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
  }
  if (exponent == 31) {
    const uint32_t quiet = mantissa != 0 ? 0x400000 : 0;  // as the hardware does
    return std::bit_cast<float>(sign | kF32Infinity | quiet | (mantissa << 13));
  }
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

uint16_t F32ToF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffff;
  if (magnitude > kF32Infinity) {
    return static_cast<uint16_t>(sign | 0x7e00 | ((magnitude >> 13) & 0x3ff));
  }
  if (magnitude >= 0x47800000) return sign | 0x7c00;  // 2^16 and above
  if (magnitude < 0x38800000) {                       // below 2^-14: subnormal
    // Adding 0.5 leaves the result in units of 2^-24 in the low bits, rounded by the adder.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000));
  }
  // A carry out of the mantissa moves into the exponent, up to infinity: what rounding asks for.
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

// The float next to value whose last bit is 1, unless value is a float. Rounding that to a half
// equals rounding value itself: two roundings to nearest would not.
float F64ToF32RoundToOdd(double value) {
  const float nearest = static_cast<float>(value);
  const double back = static_cast<double>(nearest);
  if (back == value || value != value) return nearest;
  uint32_t bits = std::bit_cast<uint32_t>(nearest);
  const double magnitude = value < 0 ? -value : value;
  const double back_magnitude = back < 0 ? -back : back;
  if (back_magnitude > magnitude) --bits;
  return std::bit_cast<float>(bits | 1);
}

// One contiguous run. The names say from and to; vector forms below compute the same bits.
using Kernel = void (*)(const void* from, void* to, size_t count);

void Bf16ToF32Plain(const void* from, void* to, size_t count) {
  for (size_t i = 0; i < count; ++i) Store(to, i, Bf16ToF32(Load<uint16_t>(from, i)));
}
void F16ToF32Plain(const void* from, void* to, size_t count) {
  for (size_t i = 0; i < count; ++i) Store(to, i, F16ToF32(Load<uint16_t>(from, i)));
}
void F32ToBf16Plain(const void* from, void* to, size_t count) {
  for (size_t i = 0; i < count; ++i) Store(to, i, F32ToBf16(Load<float>(from, i)));
}
void F32ToF16Plain(const void* from, void* to, size_t count) {
  for (size_t i = 0; i < count; ++i) Store(to, i, F32ToF16(Load<float>(from, i)));
}
void F32ToF64Plain(const void* from, void* to, size_t count) {
  for (size_t i = 0; i < count; ++i) Store(to, i, static_cast<double>(Load<float>(from, i)));
}
void F64ToF32Plain(const void* from, void* to, size_t count) {
  for (size_t i = 0; i < count; ++i) Store(to, i, static_cast<float>(Load<double>(from, i)));
}

#ifdef SVDLLM_X86
#define SVDLLM_AVX2 __attribute__((target("avx2,f16c")))

const std::byte* At(const void* base, size_t bytes) {
  return static_cast<const std::byte*>(base) + bytes;
}
std::byte* At(void* base, size_t bytes) { return static_cast<std::byte*>(base) + bytes; }
SVDLLM_AVX2 inline __m128i Load8Halves(const void* from, size_t i) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(At(from, 2 * i)));
}
SVDLLM_AVX2 inline void Store8Halves(void* to, size_t i, __m128i value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(At(to, 2 * i)), value);
}
SVDLLM_AVX2 inline __m256i Load8Words(const void* from, size_t i) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(At(from, 4 * i)));
}
SVDLLM_AVX2 inline void Store8Words(void* to, size_t i, __m256i value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(At(to, 4 * i)), value);
}

SVDLLM_AVX2 void Bf16ToF32Avx2(const void* from, void* to, size_t count) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    Store8Words(to, i, _mm256_slli_epi32(_mm256_cvtepu16_epi32(Load8Halves(from, i)), 16));
  }
  Bf16ToF32Plain(At(from, 2 * i), At(to, 4 * i), count - i);
}

SVDLLM_AVX2 void F16ToF32Avx2(const void* from, void* to, size_t count) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    Store8Words(to, i, _mm256_castps_si256(_mm256_cvtph_ps(Load8Halves(from, i))));
  }
  F16ToF32Plain(At(from, 2 * i), At(to, 4 * i), count - i);
}

SVDLLM_AVX2 void F32ToBf16Avx2(const void* from, void* to, size_t count) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i bits = Load8Words(from, i);
    const __m256i high = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
    const __m256i nan = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
    const __m256i is_nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(kF32Infinity));
    const __m256i result = _mm256_blendv_epi8(rounded, nan, is_nan);
    Store8Halves(
        to, i,
        _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1)));
  }
  F32ToBf16Plain(At(from, 4 * i), At(to, 2 * i), count - i);
}

SVDLLM_AVX2 void F32ToF16Avx2(const void* from, void* to, size_t count) {
  size_t i = 0;
  for (; i + 8 <= count; i += 8) {
    Store8Halves(to, i,
                 _mm256_cvtps_ph(_mm256_castsi256_ps(Load8Words(from, i)),
                                 _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  F32ToF16Plain(At(from, 4 * i), At(to, 2 * i), count - i);
}

SVDLLM_AVX2 void F32ToF64Avx2(const void* from, void* to, size_t count) {
  size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const __m128i words = _mm_loadu_si128(reinterpret_cast<const __m128i*>(At(from, 4 * i)));
    const __m256d doubles = _mm256_cvtps_pd(_mm_castsi128_ps(words));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(At(to, 8 * i)), _mm256_castpd_si256(doubles));
  }
  F32ToF64Plain(At(from, 4 * i), At(to, 8 * i), count - i);
}

SVDLLM_AVX2 void F64ToF32Avx2(const void* from, void* to, size_t count) {
  size_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(At(from, 8 * i)));
    const __m128 floats = _mm256_cvtpd_ps(_mm256_castsi256_pd(bits));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(At(to, 4 * i)), _mm_castps_si128(floats));
  }
  F64ToF32Plain(At(from, 8 * i), At(to, 4 * i), count - i);
}

bool HasAvx2() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
  return has;
}
#define SVDLLM_PICK(name) (HasAvx2() ? name##Avx2 : name##Plain)
#else
#define SVDLLM_PICK(name) (name##Plain)
#endif

Kernel ToF32(DType from) {
  switch (from) {
    case DType::kBF16:
      return SVDLLM_PICK(Bf16ToF32);
    case DType::kF16:
      return SVDLLM_PICK(F16ToF32);
    case DType::kF64:
      return SVDLLM_PICK(F64ToF32);
    case DType::kF32:
    case DType::kI32:
      break;
  }
  return nullptr;
}

Kernel FromF32(DType to) {
  switch (to) {
    case DType::kBF16:
      return SVDLLM_PICK(F32ToBf16);
    case DType::kF16:
      return SVDLLM_PICK(F32ToF16);
    case DType::kF64:
      return SVDLLM_PICK(F32ToF64);
    case DType::kF32:
    case DType::kI32:
      break;
  }
  return nullptr;
}

void F64ToF32RoundToOddAll(const void* from, void* to, size_t count) {
  for (size_t i = 0; i < count; ++i) Store(to, i, F64ToF32RoundToOdd(Load<double>(from, i)));
}

// At most one of the two steps rounds, so the result is rounded once.
void ThroughF32(Kernel first, Kernel second, const std::byte* from, size_t from_size, std::byte* to,
                size_t to_size, size_t count) {
  float buffer[kBuffer];
  for (size_t i = 0; i < count; i += kBuffer) {
    const size_t n = std::min(kBuffer, count - i);
    first(from + i * from_size, buffer, n);
    second(buffer, to + i * to_size, n);
  }
}

// An exponent of ones only: infinity or NaN. Without a branch, for the vectoriser.
template <typename Bits>
bool NoneHas(const std::byte* elements, Bits exponent, size_t count) {
  unsigned found = 0;
  for (size_t i = 0; i < count; ++i) {
    found |= static_cast<unsigned>((Load<Bits>(elements, i) & exponent) == exponent);
  }
  return found == 0;
}

bool AllFiniteChunk(const std::byte* elements, DType dtype, size_t count) {
  switch (dtype) {
    case DType::kF64:
      return NoneHas<uint64_t>(elements, 0x7ff0000000000000, count);
    case DType::kF32:
      return NoneHas<uint32_t>(elements, kF32Infinity, count);
    case DType::kF16:
      return NoneHas<uint16_t>(elements, 0x7c00, count);
    case DType::kBF16:
      return NoneHas<uint16_t>(elements, 0x7f80, count);
    case DType::kI32:
      break;
  }
  return true;
}

}  // namespace

void ConvertElements(const void* from, DType from_dtype, void* to, DType to_dtype, size_t count) {
  if (from_dtype != to_dtype && (from_dtype == DType::kI32 || to_dtype == DType::kI32))
    std::abort();
  if (count == 0) return;
  const size_t from_size = SizeOf(from_dtype);
  const size_t to_size = SizeOf(to_dtype);
  Kernel first = ToF32(from_dtype);
  const Kernel second = FromF32(to_dtype);
  if (from_dtype == DType::kF64 && second != nullptr) first = F64ToF32RoundToOddAll;

  const int64_t chunks = static_cast<int64_t>((count + kChunk - 1) / kChunk);
#pragma omp parallel for schedule(static) if (chunks > 2)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const size_t begin = static_cast<size_t>(chunk) * kChunk;
    const size_t n = std::min(kChunk, count - begin);
    const std::byte* source = static_cast<const std::byte*>(from) + begin * from_size;
    std::byte* target = static_cast<std::byte*>(to) + begin * to_size;
    if (from_dtype == to_dtype) {
      std::memcpy(target, source, n * from_size);
    } else if (first == nullptr) {
      second(source, target, n);
    } else if (second == nullptr) {
      first(source, target, n);
    } else {
      ThroughF32(first, second, source, from_size, target, to_size, n);
    }
  }
}

bool AllFiniteElements(const void* elements, DType dtype, size_t count) {
  const auto chunks = static_cast<int64_t>((count + kChunk - 1) / kChunk);
  bool finite = true;
#pragma omp parallel for schedule(static) reduction(&& : finite) if (chunks > 2)
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const size_t begin = static_cast<size_t>(chunk) * kChunk;
    const std::byte* from = static_cast<const std::byte*>(elements) + begin * SizeOf(dtype);
    finite = finite && AllFiniteChunk(from, dtype, std::min(kChunk, count - begin));
  }
  return finite;
}

}  // namespace svdllm
