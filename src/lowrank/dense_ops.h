// Short forms of F64 matrix operations, for the other files of this folder.
#pragma once

#include <vector>

#include "linalg/backend.h"

namespace svdllm {

// op(a) op(b), in memory of its own.
absl::StatusOr<Matrix> MatMul(bool transpose_a, bool transpose_b, MatrixRef a, MatrixRef b,
                              Backend& backend);
absl::StatusOr<Matrix> CopyOf(MatrixRef from, Backend& backend);
absl::StatusOr<std::vector<double>> ToHost(MatrixRef x, Backend& backend);
// x m = b for a Gram matrix m, which stays: by Cholesky, or, where m is singular, without the
// directions that are zero up to rounding. b is overwritten by x.
absl::Status SolveGram(MatrixRef m, MatrixRef b, Backend& backend);

}  // namespace svdllm
