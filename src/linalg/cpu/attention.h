// Attention of the CPU backend.
#pragma once

#include <cstdint>
#include <span>

#include "linalg/backend.h"

namespace svdllm::cpu {

// Backend::Attention (backend.h), its operands checked; keys is one a sequence.
void Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
               std::span<const int64_t> offsets, std::span<const KeyRange> keys, MatrixRef out);

}  // namespace svdllm::cpu
