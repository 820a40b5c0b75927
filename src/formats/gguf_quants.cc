#include "formats/gguf_quants.h"

#include <bit>
#include <cstring>

namespace svdllm {
namespace {

float Half(const uint8_t* bytes) {
  const uint32_t half = static_cast<uint32_t>(bytes[0]) | static_cast<uint32_t>(bytes[1]) << 8;
  const uint32_t sign = (half & 0x8000u) << 16;
  const uint32_t exponent = half >> 10 & 0x1f;
  const uint32_t fraction = half & 0x3ff;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float subnormal = static_cast<float>(fraction) * 0x1p-24f;
  return sign != 0 ? -subnormal : subnormal;
}

// The formats of 32 elements: 4 low bits of elements 0–15 and 16–31 share bytes, and where there
// are five, the fifth are the bits of a 32-bit word. value = scale · code + offset.
struct Nibbles {
  const uint8_t* low;
  const uint8_t* fifth;  // nullptr: four bits
};

void Unpack(const Nibbles& codes, float scale, int code_offset, float offset, float* out) {
  uint32_t fifth = 0;
  if (codes.fifth != nullptr) std::memcpy(&fifth, codes.fifth, sizeof(fifth));
  for (int i = 0; i < 32; ++i) {
    const int low = i < 16 ? codes.low[i] & 0xf : codes.low[i - 16] >> 4;
    const int code = low | static_cast<int>(fifth >> i & 1) << 4;
    out[i] = scale * static_cast<float>(code - code_offset) + offset;
  }
}

void Q4_0(const uint8_t* b, float* out) { Unpack({b + 2, nullptr}, Half(b), 8, -0.0f, out); }
void Q4_1(const uint8_t* b, float* out) { Unpack({b + 4, nullptr}, Half(b), 0, Half(b + 2), out); }
void Q5_0(const uint8_t* b, float* out) { Unpack({b + 6, b + 2}, Half(b), 16, -0.0f, out); }
void Q5_1(const uint8_t* b, float* out) { Unpack({b + 8, b + 4}, Half(b), 0, Half(b + 2), out); }

void Q8_0(const uint8_t* b, float* out) {
  const float scale = Half(b);
  for (int i = 0; i < 32; ++i) out[i] = scale * static_cast<float>(static_cast<int8_t>(b[2 + i]));
}

// The K formats have 256 elements, in halves of 128. Two bits a code: the bytes of a half hold four
// runs of 32 elements, from the low bits up.
int TwoBits(const uint8_t* codes, int i) {
  const int half = i / 128, run = i % 128 / 32;
  return codes[32 * half + i % 32] >> (2 * run) & 3;
}

// Scales and offsets of runs of 16; the scale in the low bits.
void Q2_K(const uint8_t* b, float* out) {
  const uint8_t* scales = b;
  const uint8_t* codes = b + 16;
  const float scale = Half(b + 80), offset = Half(b + 82);
  for (int i = 0; i < 256; ++i) {
    const uint8_t packed = scales[i / 16];
    out[i] = scale * static_cast<float>(packed & 0xf) * static_cast<float>(TwoBits(codes, i)) -
             offset * static_cast<float>(packed >> 4);
  }
}

// Three bits a code, the third in a mask, and inverted; six-bit scales of runs of 16.
void Q3_K(const uint8_t* b, float* out) {
  const uint8_t* mask = b;
  const uint8_t* codes = b + 32;
  const uint8_t* scales = b + 96;
  const float scale = Half(b + 108);
  for (int i = 0; i < 256; ++i) {
    const int run = i / 16;
    const int low = run < 8 ? scales[run] & 0xf : scales[run - 8] >> 4;
    const int high = scales[8 + run % 4] >> (2 * (run / 4)) & 3;
    const bool third = (mask[i % 32] >> (i / 32) & 1) != 0;
    out[i] = scale * static_cast<float>((low | high << 4) - 32) *
             static_cast<float>(TwoBits(codes, i) - (third ? 0 : 4));
  }
}

// Q4_K and Q5_K: eight runs of 32 with six-bit scales and offsets, packed in 12 bytes.
struct ScaleAndOffset {
  int scale, offset;
};

ScaleAndOffset SixBits(const uint8_t* packed, int run) {
  if (run < 4) return {packed[run] & 63, packed[run + 4] & 63};
  return {(packed[run + 4] & 0xf) | packed[run - 4] >> 6 << 4,
          packed[run + 4] >> 4 | packed[run] >> 6 << 4};
}

void UnpackSixBits(const uint8_t* b, const uint8_t* fifth, const uint8_t* codes, float* out) {
  const float scale = Half(b), offset = Half(b + 2);
  for (int run = 0; run < 8; ++run) {
    const ScaleAndOffset packed = SixBits(b + 4, run);
    const float run_scale = scale * static_cast<float>(packed.scale);
    const float run_offset = offset * static_cast<float>(packed.offset);
    for (int i = 0; i < 32; ++i) {
      const uint8_t byte = codes[run / 2 * 32 + i];
      int code = run % 2 == 0 ? byte & 0xf : byte >> 4;
      if (fifth != nullptr) code |= (fifth[i] >> run & 1) << 4;
      out[run * 32 + i] = run_scale * static_cast<float>(code) - run_offset;
    }
  }
}

void Q4_K(const uint8_t* b, float* out) { UnpackSixBits(b, nullptr, b + 16, out); }
void Q5_K(const uint8_t* b, float* out) { UnpackSixBits(b, b + 16, b + 48, out); }

// Six bits a code, the upper two apart; signed scales of runs of 16.
void Q6_K(const uint8_t* b, float* out) {
  const uint8_t* low_bits = b;
  const uint8_t* high_bits = b + 128;
  const uint8_t* scales = b + 192;
  const float scale = Half(b + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, run = i % 128 / 32;
    const uint8_t byte = low_bits[64 * half + 32 * (run % 2) + i % 32];
    const int low = run < 2 ? byte & 0xf : byte >> 4;
    const int code = (low | TwoBits(high_bits, i) << 4) - 32;
    out[i] =
        scale * static_cast<float>(static_cast<int8_t>(scales[i / 16])) * static_cast<float>(code);
  }
}

constexpr GgmlType kTypes[] = {
    {0, "F32", 1, 4, nullptr},    {1, "F16", 1, 2, nullptr},    {2, "Q4_0", 32, 18, Q4_0},
    {3, "Q4_1", 32, 20, Q4_1},    {6, "Q5_0", 32, 22, Q5_0},    {7, "Q5_1", 32, 24, Q5_1},
    {8, "Q8_0", 32, 34, Q8_0},    {10, "Q2_K", 256, 84, Q2_K},  {11, "Q3_K", 256, 110, Q3_K},
    {12, "Q4_K", 256, 144, Q4_K}, {13, "Q5_K", 256, 176, Q5_K}, {14, "Q6_K", 256, 210, Q6_K},
    {30, "BF16", 1, 2, nullptr},
};

}  // namespace

const GgmlType* FindGgmlType(uint32_t number) {
  for (const GgmlType& type : kTypes) {
    if (type.number == number) return &type;
  }
  return nullptr;
}

std::string KnownGgmlTypes() {
  std::string names;
  for (const GgmlType& type : kTypes) names += (names.empty() ? "" : ", ") + std::string(type.name);
  return names;
}

}  // namespace svdllm
