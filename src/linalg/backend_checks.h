// What every Backend checks about its operands before it computes (backend.h has the contracts).
// What does not fit is a mistake in the calling code: INTERNAL, naming the operation and the
// shapes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "linalg/backend.h"

namespace svdllm::checks {

absl::Status New(int64_t rows, int64_t cols);
absl::Status Movable(const char* operation, DType from, DType to);
absl::Status Copy(MatrixRef from, MatrixRef to);
absl::Status Transpose(MatrixRef from, MatrixRef to);
absl::Status GatherRows(MatrixRef from, std::span<const int32_t> rows, MatrixRef to);
absl::Status Gemm(bool transpose_a, bool transpose_b, MatrixRef a, MatrixRef b, MatrixRef c);
absl::Status AccumulateGram(MatrixRef x, DType precision, MatrixRef gram);
absl::Status AccumulateCross(MatrixRef x, MatrixRef y, DType precision, MatrixRef cross);
absl::Status MirrorLower(MatrixRef a);
absl::Status AccumulateAbs(MatrixRef x, MatrixRef sum);
absl::Status SymmetricEigen(std::span<const EigenProblem> problems);
absl::Status ThinQr(MatrixRef w, MatrixRef q, MatrixRef r);
absl::Status SolveSpd(MatrixRef a, MatrixRef b);
absl::Status Interpolative(MatrixRef x, std::span<const int32_t> pivots, MatrixRef t);
absl::Status ScaleRows(MatrixRef x, MatrixRef scale);
absl::Status ScaleCols(MatrixRef x, MatrixRef scale);
absl::Status RowDots(MatrixRef a, MatrixRef b, MatrixRef sums);
absl::Status Dot(MatrixRef a, MatrixRef b);
absl::Status RmsNorm(MatrixRef x, MatrixRef weight, MatrixRef y);
absl::Status LayerNorm(MatrixRef x, MatrixRef weight, MatrixRef bias, MatrixRef y);
absl::Status GatherCols(MatrixRef x, MatrixRef order, MatrixRef y);
absl::Status AddBias(MatrixRef y, MatrixRef bias);
absl::Status Add(MatrixRef x, MatrixRef y);
absl::Status Rope(MatrixRef x, int64_t heads, MatrixRef cosines, MatrixRef sines,
                  std::span<const int64_t> offsets, std::span<const int64_t> first);
absl::Status Attention(MatrixRef q, MatrixRef k, MatrixRef v, const AttentionShape& shape,
                       std::span<const int64_t> offsets, std::span<const KeyRange> keys,
                       MatrixRef out);
absl::Status Activate(MatrixRef gate, MatrixRef up);
absl::Status SoftCap(MatrixRef x, double cap);
absl::Status CrossEntropy(MatrixRef logits, std::span<const int32_t> targets);
absl::Status KlDivergence(MatrixRef reference, MatrixRef logits);
absl::Status AllFinite(MatrixRef x);

// Returns keys or, where there are none, the range of each sequence's own rows.
std::vector<KeyRange> KeysOf(std::span<const int64_t> offsets, std::span<const KeyRange> keys);

}  // namespace svdllm::checks
