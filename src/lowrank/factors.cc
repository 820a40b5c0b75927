#include "lowrank/factors.h"

#include <cmath>
#include <string>

#include "lowrank/dense_ops.h"

namespace svdllm {
namespace {

// The rows of W′ that a holds, and the others; both ascending.
struct Split {
  std::vector<int32_t> pivots, rest;
};

Split SplitOf(const std::vector<int32_t>& order, int64_t rank) {
  Split split;
  for (size_t i = 0; i < order.size(); ++i) {
    (order[i] < rank ? split.pivots : split.rest).push_back(static_cast<int32_t>(i));
  }
  return split;
}

absl::StatusOr<Matrix> RowsOf(MatrixRef x, const std::vector<int32_t>& rows, Backend& backend) {
  ASSIGN_OR_RETURN(Matrix taken,
                   backend.New(static_cast<int64_t>(rows.size()), x.cols, DType::kF64));
  RETURN_IF_ERROR(backend.GatherRows(x, rows, taken));
  return taken;
}

// a G [k, n].
absl::StatusOr<Matrix> TimesMetric(MatrixRef a, const Metric& metric, Backend& backend) {
  if (metric.gram.data != nullptr) return MatMul(false, false, a, metric.gram, backend);
  ASSIGN_OR_RETURN(Matrix scaled, CopyOf(a, backend));
  if (metric.scale.data != nullptr) {
    RETURN_IF_ERROR(backend.ScaleCols(scaled, metric.scale));
    RETURN_IF_ERROR(backend.ScaleCols(scaled, metric.scale));
  }
  return scaled;
}

absl::StatusOr<std::vector<double>> RowSquares(MatrixRef x, Backend& backend) {
  ASSIGN_OR_RETURN(const Matrix sums, backend.New(1, x.rows, DType::kF64));
  RETURN_IF_ERROR(backend.RowDots(x, x, sums));
  return ToHost(sums, backend);
}

}  // namespace

absl::Status Balance(Factors& factors, Backend& backend) {
  const int64_t rank = factors.a.rows();
  ASSIGN_OR_RETURN(const std::vector<double> a_squares, RowSquares(factors.a, backend));
  std::vector<double> b_squares;
  {
    ASSIGN_OR_RETURN(const Matrix columns, backend.New(rank, factors.b.rows(), DType::kF64));
    RETURN_IF_ERROR(backend.Transpose(factors.b, columns));
    ASSIGN_OR_RETURN(b_squares, RowSquares(columns, backend));
  }
  std::vector<double> to_a(static_cast<size_t>(rank), 1), to_b(to_a);
  for (size_t i = 0; i < to_a.size(); ++i) {
    if (a_squares[i] == 0 || b_squares[i] == 0) continue;
    to_b[i] = std::pow(a_squares[i] / b_squares[i], 0.25);
    to_a[i] = 1 / to_b[i];
  }
  ASSIGN_OR_RETURN(const Matrix scale, backend.New(2, rank, DType::kF64));
  RETURN_IF_ERROR(backend.Upload(to_a.data(), DType::kF64, scale.ref().Rows(0, 1)));
  RETURN_IF_ERROR(backend.Upload(to_b.data(), DType::kF64, scale.ref().Rows(1, 1)));
  RETURN_IF_ERROR(backend.ScaleRows(factors.a, scale.ref().Rows(0, 1)));
  return backend.ScaleCols(factors.b, scale.ref().Rows(1, 1));
}

absl::StatusOr<Factors> Pivot(const Factors& factors, Backend& backend) {
  const int64_t rank = factors.a.rows(), rows = factors.b.rows();
  ASSIGN_OR_RETURN(const Matrix transposed, backend.New(rank, rows, DType::kF64));
  RETURN_IF_ERROR(backend.Transpose(factors.b, transposed));
  Factors pivoted;
  ASSIGN_OR_RETURN(pivoted.b, backend.New(rows - rank, rank, DType::kF64));
  std::vector<int32_t> pivots(static_cast<size_t>(rank));
  const absl::Status split = backend.Interpolative(transposed, pivots, pivoted.b);
  if (absl::IsFailedPrecondition(split)) {
    return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                     "pivoted encoding: rank " + std::to_string(rank) +
                         " was asked for, and the factors have less");
  }
  RETURN_IF_ERROR(split);
  pivoted.order.assign(static_cast<size_t>(rows), -1);
  for (size_t j = 0; j < pivots.size(); ++j) {
    pivoted.order[static_cast<size_t>(pivots[j])] = static_cast<int32_t>(j);
  }
  auto next = static_cast<int32_t>(rank);
  for (int32_t& place : pivoted.order) {
    if (place < 0) place = next++;
  }
  ASSIGN_OR_RETURN(const Matrix b, RowsOf(factors.b, SplitOf(pivoted.order, rank).pivots, backend));
  ASSIGN_OR_RETURN(pivoted.a, MatMul(false, false, b, factors.a, backend));
  return pivoted;
}

absl::Status RefitPivoted(MatrixRef w, const Metric& metric, Factors& factors, Backend& backend) {
  if (factors.b.rows() == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Matrix rest,
                   RowsOf(w, SplitOf(factors.order, factors.a.rows()).rest, backend));
  ASSIGN_OR_RETURN(const Matrix ag, TimesMetric(factors.a, metric, backend));
  ASSIGN_OR_RETURN(const Matrix m, MatMul(false, true, ag, factors.a, backend));
  // A correction to the coefficients at hand, so that directions in which the metric is zero stay:
  // b += (W_rest − b a) G aᵀ (a G aᵀ)⁻¹.
  RETURN_IF_ERROR(backend.Gemm(false, false, -1, factors.b, factors.a, 1, rest));
  ASSIGN_OR_RETURN(const Matrix correction, MatMul(false, true, rest, ag, backend));
  RETURN_IF_ERROR(SolveGram(m, correction, backend));
  return backend.Add(1, correction, factors.b);
}

absl::StatusOr<Matrix> Multiply(const Factors& factors, Backend& backend) {
  if (!factors.pivoted()) return MatMul(false, false, factors.b, factors.a, backend);
  const int64_t rank = factors.a.rows();
  ASSIGN_OR_RETURN(const Matrix stacked,
                   backend.New(rank + factors.b.rows(), factors.a.cols(), DType::kF64));
  RETURN_IF_ERROR(backend.Copy(factors.a, stacked.ref().Rows(0, rank)));
  RETURN_IF_ERROR(backend.Gemm(false, false, 1, factors.b, factors.a, 0,
                               stacked.ref().Rows(rank, factors.b.rows())));
  return RowsOf(stacked, factors.order, backend);
}

}  // namespace svdllm
