#include "lowrank/dense_ops.h"

#include <algorithm>

namespace svdllm {
namespace {

// x m = b by m's eigendecomposition, leaving out what is zero up to rounding. b is overwritten.
absl::Status SolveSingular(MatrixRef m, MatrixRef b, Backend& backend) {
  const int64_t k = m.rows;
  ASSIGN_OR_RETURN(const Matrix values, backend.New(1, k, DType::kF64));
  ASSIGN_OR_RETURN(const Matrix vectors, backend.New(k, k, DType::kF64));
  const EigenProblem problem{m, values, vectors};
  RETURN_IF_ERROR(backend.SymmetricEigen({&problem, 1}));
  ASSIGN_OR_RETURN(std::vector<double> inverse, ToHost(values, backend));
  // The Grams behind m are sums of single-precision products: what is smaller is their rounding.
  const double smallest = 1e-9 * std::max(inverse.empty() ? 0.0 : inverse[0], 0.0);
  for (double& value : inverse) value = value > smallest ? 1 / value : 0;
  RETURN_IF_ERROR(backend.Upload(inverse.data(), DType::kF64, values));
  ASSIGN_OR_RETURN(const Matrix rotated, MatMul(false, true, b, vectors, backend));
  RETURN_IF_ERROR(backend.ScaleCols(rotated, values));
  return backend.Gemm(false, false, 1, rotated, vectors, 0, b);
}

}  // namespace

absl::StatusOr<Matrix> MatMul(bool transpose_a, bool transpose_b, MatrixRef a, MatrixRef b,
                              Backend& backend) {
  ASSIGN_OR_RETURN(Matrix c, backend.New(transpose_a ? a.cols : a.rows,
                                         transpose_b ? b.rows : b.cols, DType::kF64));
  RETURN_IF_ERROR(backend.Gemm(transpose_a, transpose_b, 1, a, b, 0, c));
  return c;
}

absl::StatusOr<Matrix> CopyOf(MatrixRef from, Backend& backend) {
  ASSIGN_OR_RETURN(Matrix to, backend.New(from.rows, from.cols, DType::kF64));
  RETURN_IF_ERROR(backend.Copy(from, to));
  return to;
}

absl::StatusOr<std::vector<double>> ToHost(MatrixRef x, Backend& backend) {
  std::vector<double> host(static_cast<size_t>(x.size()));
  RETURN_IF_ERROR(backend.Download(x, host.data(), DType::kF64));
  return host;
}

absl::Status SolveGram(MatrixRef m, MatrixRef b, Backend& backend) {
  // Both factorisations destroy what they are given.
  ASSIGN_OR_RETURN(const Matrix copy, CopyOf(m, backend));
  const absl::Status solved = backend.SolveSpd(copy, b);
  if (!absl::IsFailedPrecondition(solved)) return solved;
  ASSIGN_OR_RETURN(const Matrix again, CopyOf(m, backend));
  return SolveSingular(again, b, backend);
}

}  // namespace svdllm
