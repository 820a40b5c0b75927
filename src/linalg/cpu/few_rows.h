// Products of a few rows with a large matrix: generating text token by token consists of these.
// BLAS copies the matrix into tiles first, which pays only where many rows share them. Here it is
// read once, straight through, at the speed of memory.
#pragma once

#include <cstdint>

namespace svdllm::cpu {

// Above this many rows BLAS is faster.
inline constexpr int64_t kFewRows = 16;

// y[r, o] = alpha · x[r] · w[o] + beta · y[r, o], where x is [rows, k], w [count, k] and y [rows,
// count], each with its own stride. y is not read where beta is 0. Single-threaded: parallel loops
// give each call a part of w. The sum of an element does not depend on rows or count.
void FewRows(const float* x, int64_t x_stride, int64_t rows, const float* w, int64_t w_stride,
             int64_t count, int64_t k, float alpha, float beta, float* y, int64_t y_stride);

}  // namespace svdllm::cpu
