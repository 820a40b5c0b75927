// Attention of the CPU backend.
#pragma once

#include <cstdint>
#include <span>

#include "linalg/backend.h"

namespace svdllm::cpu {

// Computes Backend::Attention (backend.h) on operands that are checked already. keys holds one
// range per sequence.
void Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
               std::span<const int64_t> offsets, std::span<const KeyRange> keys, MatrixRef out);

}  // namespace svdllm::cpu
