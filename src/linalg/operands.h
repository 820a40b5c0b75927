// What the operations of a Backend take beside matrices. This header is free of heavy ones, for
// CUDA's compiler.
#pragma once

#include <cstdint>

#include "linalg/dtype.h"

namespace svdllm {

// Heads of one attention: query head h reads key/value head h / (heads / kv_heads).
struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  double scale = 0;    // of a score; 0: 1 / sqrt(head_dim)
  double softcap = 0;  // a scaled score becomes softcap · tanh(score / softcap); 0: it stays
  int64_t window = 0;  // a query sees itself and the window − 1 keys in front of it; 0: all of them
  // With F16 or BF16, q, k, v and the softmax's weights may be rounded to it, for products on
  // tensor cores.
  DType precision = DType::kF32;
};

// The rows of k and v that one sequence's queries see: rows [first, first + count), those in front
// of the queries and their own.
struct KeyRange {
  int64_t first = 0;
  int64_t count = 0;
};

// silu x / (1 + e⁻ˣ); gelu x Φ(x), and its approximation ½x (1 + tanh(√(2/π) (x + 0.044715 x³)));
// relu max(x, 0).
enum class Activation : uint8_t { kSilu, kGelu, kGeluTanh, kRelu };

}  // namespace svdllm
