// The attention of the CPU backend; operands are checked before (backend.h has the contracts).
#pragma once

#include <cstdint>
#include <span>

#include "linalg/backend.h"

namespace svdllm::cpu {

void Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
               std::span<const int64_t> offsets, MatrixRef out);
void CachedAttention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
                     std::span<const int64_t> lengths, MatrixRef out);

}  // namespace svdllm::cpu
