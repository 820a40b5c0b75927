// Short forms of F64 matrix operations, for the other files of this folder only.
#pragma once

#include <vector>

#include "linalg/backend.h"

namespace svdllm {

// Returns op(a) op(b) in memory of its own; op transposes where asked.
absl::StatusOr<Matrix> MatMul(bool transpose_a, bool transpose_b, MatrixRef a, MatrixRef b,
                              Backend& backend);
absl::StatusOr<Matrix> CopyOf(MatrixRef from, Backend& backend);
absl::StatusOr<std::vector<double>> ToHost(MatrixRef x, Backend& backend);
// Solves x m = b for x, where m is a Gram matrix, which stays as it is. Cholesky does it or, where
// m is singular, a solution without the directions that are zero up to rounding. b is overwritten
// by x.
absl::Status SolveGram(MatrixRef m, MatrixRef b, Backend& backend);

}  // namespace svdllm
