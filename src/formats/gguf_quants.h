// ggml's block formats: what their bytes stand for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace svdllm {

struct GgmlType {
  uint32_t number;
  const char* name;
  size_t block_elements;  // a row is a whole number of blocks
  size_t block_bytes;
  // Turns one block into numbers; out has room for block_elements of them. nullptr for F32, F16 and
  // BF16, which have no blocks.
  void (*dequantize)(const uint8_t* block, float* out);
};

// Returns nullptr for a number that is not one of F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0,
// Q2_K, Q3_K, Q4_K, Q5_K and Q6_K.
const GgmlType* FindGgmlType(uint32_t number);
std::string KnownGgmlTypes();

}  // namespace svdllm
