#include "lowrank/decomposition.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "lowrank/dense_ops.h"

namespace svdllm {
namespace {

double TailSum(const std::vector<double>& spectrum, int64_t rank) {
  double sum = 0;
  for (size_t j = spectrum.size(); j > static_cast<size_t>(rank); --j) sum += spectrum[j - 1];
  return sum;
}

absl::StatusOr<double> Trace(MatrixRef k, Backend& backend) {
  // The diagonal as a column whose rows are further apart.
  const MatrixRef diagonal{k.data, k.rows, k.rows > 0 ? 1 : 0, k.stride + 1, k.dtype};
  ASSIGN_OR_RETURN(const std::vector<double> host, ToHost(diagonal, backend));
  return std::accumulate(host.begin(), host.end(), 0.0);
}

// K = C G Cᵀ [p, p].
absl::StatusOr<Matrix> Project(const Decomposition& d, const Metric& metric, Backend& backend) {
  const MatrixRef c = d.core();
  if (metric.output_gram.data != nullptr) return CopyOf(metric.output_gram, backend);
  if (metric.gram.data != nullptr) {
    ASSIGN_OR_RETURN(const Matrix cg, MatMul(false, false, c, metric.gram, backend));
    return MatMul(false, true, cg, c, backend);
  }
  if (metric.scale.data != nullptr) {
    ASSIGN_OR_RETURN(const Matrix scaled, CopyOf(c, backend));
    RETURN_IF_ERROR(backend.ScaleCols(scaled, metric.scale));
    return MatMul(false, true, scaled, scaled, backend);
  }
  return MatMul(false, true, c, c, backend);
}

absl::StatusOr<Decomposition> Prepare(const DecomposeItem& item, Backend& backend) {
  Decomposition d;
  ASSIGN_OR_RETURN(d.w, CopyOf(item.weight, backend));
  const int64_t m = d.w.rows(), n = d.w.cols();
  if (m > n) {
    ASSIGN_OR_RETURN(d.q, backend.New(m, n, DType::kF64));
    ASSIGN_OR_RETURN(d.c, backend.New(n, n, DType::kF64));
    RETURN_IF_ERROR(backend.ThinQr(d.w, d.q, d.c));
    // The QR may have destroyed its input.
    RETURN_IF_ERROR(backend.Copy(item.weight, d.w));
  }
  return d;
}

// The trace that the leading eigenvectors leave unexplained against the eigenvalues' tail, at the
// middle of the spectrum: a decomposition that went wrong does not pass.
absl::Status Verify(const Decomposition& d, MatrixRef k, double trace, Backend& backend) {
  const int64_t p = d.vectors.rows(), rank = (p + 1) / 2;
  const MatrixRef leading = d.vectors.ref().Rows(0, rank);
  ASSIGN_OR_RETURN(const Matrix projected, MatMul(false, false, leading, k, backend));
  ASSIGN_OR_RETURN(const double explained, backend.Dot(projected, leading));
  const double tail = TailSum(d.spectrum, rank);
  if (std::fabs(trace - explained - tail) <= 1e-6 * std::fabs(tail) + 1e-11 * trace)
    return absl::OkStatus();
  return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                   "eigendecomposition: unexplained energy " + std::to_string(trace - explained) +
                       " against " + std::to_string(tail) + " from the eigenvalues");
}

// b = Q u, a = v: u [p, k], v [k, n].
absl::StatusOr<Factors> Assemble(const Decomposition& d, Matrix u, Matrix v, Backend& backend) {
  Factors factors;
  factors.a = std::move(v);
  if (d.q.empty()) {
    factors.b = std::move(u);
  } else {
    ASSIGN_OR_RETURN(factors.b, MatMul(false, false, d.q, u, backend));
  }
  return factors;
}

absl::StatusOr<Matrix> Residual(const Decomposition& d, MatrixRef approximation, Backend& backend) {
  ASSIGN_OR_RETURN(Matrix residual, CopyOf(d.w, backend));
  RETURN_IF_ERROR(backend.Add(-1, approximation, residual));
  return residual;
}

}  // namespace

double Decomposition::Tail(int64_t rank) const { return std::max(TailSum(spectrum, rank), 0.0); }

absl::StatusOr<PendingDecompositions> PendingDecompositions::Start(
    std::span<const DecomposeItem> items, bool values_only, Backend& backend) {
  PendingDecompositions pending;
  pending.backend_ = &backend;
  pending.values_only_ = values_only;
  std::vector<EigenProblem> eigenproblems;
  for (const DecomposeItem& item : items) {
    Problem problem;
    Decomposition& d = problem.decomposition;
    ASSIGN_OR_RETURN(d, Prepare(item, backend));
    ASSIGN_OR_RETURN(problem.k, Project(d, item.metric, backend));
    ASSIGN_OR_RETURN(const bool finite, backend.AllFinite(problem.k));
    if (!finite) {
      return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                       "W G Wᵀ is not finite: the weights or activations are too large");
    }
    const int64_t p = problem.k.rows();
    ASSIGN_OR_RETURN(d.values, backend.New(1, p, DType::kF64));
    if (values_only) {
      eigenproblems.push_back({problem.k, d.values, {}});
    } else {
      ASSIGN_OR_RETURN(problem.trace, Trace(problem.k, backend));
      ASSIGN_OR_RETURN(d.vectors, backend.New(p, p, DType::kF64));
      ASSIGN_OR_RETURN(problem.destroyed, CopyOf(problem.k, backend));
      eigenproblems.push_back({problem.destroyed, d.values, d.vectors});
    }
    pending.problems_.push_back(std::move(problem));
  }
  ASSIGN_OR_RETURN(pending.pending_, backend.StartEigen(eigenproblems));
  return pending;
}

absl::StatusOr<std::vector<Decomposition>> PendingDecompositions::Finish() {
  RETURN_IF_ERROR(pending_->Finish());
  pending_.reset();
  std::vector<Decomposition> decompositions;
  for (Problem& problem : problems_) {
    Decomposition& d = problem.decomposition;
    problem.destroyed = Matrix();
    ASSIGN_OR_RETURN(d.spectrum, ToHost(d.values, *backend_));
    if (!values_only_) RETURN_IF_ERROR(Verify(d, problem.k, problem.trace, *backend_));
    problem.k = Matrix();
    decompositions.push_back(std::move(d));
  }
  problems_.clear();
  return decompositions;
}

absl::StatusOr<std::vector<Decomposition>> Decompose(std::span<const DecomposeItem> items,
                                                     Backend& backend) {
  ASSIGN_OR_RETURN(PendingDecompositions pending,
                   PendingDecompositions::Start(items, /*values_only=*/false, backend));
  return pending.Finish();
}

absl::StatusOr<Factors> Truncate(const Decomposition& d, int64_t rank, Backend& backend) {
  const MatrixRef p = d.vectors.ref().Rows(0, rank);
  ASSIGN_OR_RETURN(Matrix u, backend.New(p.cols, rank, DType::kF64));
  RETURN_IF_ERROR(backend.Transpose(p, u));
  ASSIGN_OR_RETURN(Matrix v, MatMul(false, false, p, d.core(), backend));
  return Assemble(d, std::move(u), std::move(v), backend);
}

absl::StatusOr<CutFactors> Cut(const Decomposition& d, int64_t rank, const Metric&,
                               Backend& backend) {
  CutFactors result;
  ASSIGN_OR_RETURN(result.factors, Truncate(d, rank, backend));
  const double total = d.Tail(0);
  if (total > 0) result.relative_loss = std::sqrt(d.Tail(rank) / total);
  return result;
}

absl::StatusOr<CutFactors> CutAndUpdate(const Decomposition& d, int64_t rank, const Metric& metric,
                                        Backend& backend) {
  const MatrixRef p = d.vectors.ref().Rows(0, rank);  // U_kᵀ
  ASSIGN_OR_RETURN(const Matrix k, Project(d, metric, backend));
  ASSIGN_OR_RETURN(const bool finite, backend.AllFinite(k));
  if (!finite) {
    return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                     "update: W H Wᵀ is not finite: the compressed prefix diverged");
  }
  ASSIGN_OR_RETURN(Matrix correction, MatMul(false, true, k, p, backend));  // K′U [p, rank]
  ASSIGN_OR_RETURN(const Matrix m, MatMul(false, false, p, correction, backend));
  ASSIGN_OR_RETURN(Matrix u, CopyOf(correction, backend));  // kept for the loss below
  RETURN_IF_ERROR(backend.Gemm(true, false, -1, p, m, 1, correction));
  RETURN_IF_ERROR(SolveGram(m, correction, backend));
  ASSIGN_OR_RETURN(Matrix updated, backend.New(p.cols, rank, DType::kF64));
  RETURN_IF_ERROR(backend.Transpose(p, updated));
  RETURN_IF_ERROR(backend.Add(1, correction, updated));

  // ‖(I − U*Uᵀ)W X′‖² = tr K′ − 2 tr(U*ᵀ K′U) + tr(U* M U*ᵀ)
  ASSIGN_OR_RETURN(const double trace, Trace(k, backend));
  ASSIGN_OR_RETURN(const double cross, backend.Dot(updated, u));
  ASSIGN_OR_RETURN(const Matrix um, MatMul(false, false, updated, m, backend));
  ASSIGN_OR_RETURN(const double square, backend.Dot(um, updated));

  CutFactors result;
  result.relative_loss =
      trace > 0 ? std::sqrt(std::max(trace - 2 * cross + square, 0.0) / trace) : 0;
  ASSIGN_OR_RETURN(Matrix v, MatMul(false, false, p, d.core(), backend));
  ASSIGN_OR_RETURN(result.factors, Assemble(d, std::move(updated), std::move(v), backend));
  return result;
}

absl::StatusOr<double> ResidualLoss(const Decomposition& d, MatrixRef approximation,
                                    const Metric& metric, Backend& backend) {
  ASSIGN_OR_RETURN(const Matrix residual, Residual(d, approximation, backend));
  if (metric.gram.data != nullptr) {
    ASSIGN_OR_RETURN(const Matrix rg, MatMul(false, false, residual, metric.gram, backend));
    return backend.Dot(rg, residual);
  }
  if (metric.scale.data != nullptr) RETURN_IF_ERROR(backend.ScaleCols(residual, metric.scale));
  return backend.Dot(residual, residual);
}

absl::StatusOr<double> SampledLoss(const Decomposition& d, MatrixRef approximation, MatrixRef xt,
                                   Backend& backend) {
  ASSIGN_OR_RETURN(const Matrix residual, Residual(d, approximation, backend));
  ASSIGN_OR_RETURN(const Matrix single, backend.New(residual.rows(), residual.cols(), DType::kF32));
  RETURN_IF_ERROR(backend.Copy(residual, single));
  ASSIGN_OR_RETURN(const Matrix y, backend.New(xt.rows, residual.rows(), DType::kF32));
  RETURN_IF_ERROR(backend.Gemm(false, true, 1, xt, single, 0, y));
  ASSIGN_OR_RETURN(const Matrix wide, CopyOf(y, backend));
  return backend.Dot(wide, wide);
}

}  // namespace svdllm
