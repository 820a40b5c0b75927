// LAPACK behind row-major views. A row-major matrix is its transpose to LAPACK, and every routine
// here but Interpolative is chosen so that nothing has to be transposed. F64; thread-safe on
// distinct data.
#pragma once

#include "base/status.h"
#include "linalg/backend.h"

namespace svdllm::cpu {

absl::Status SymmetricEigen(const EigenProblem& problem);
// q holds w [m, n] on entry and its orthonormal factor on return.
absl::Status ThinQr(MatrixRef q, MatrixRef r);
absl::Status SolveSpd(MatrixRef a, MatrixRef b);
absl::Status Interpolative(MatrixRef x, std::span<int32_t> pivots, MatrixRef t);

}  // namespace svdllm::cpu
