#include "lowrank/decomposition.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace svdllm {
namespace {

absl::StatusOr<Matrix> Product(bool transpose_a, bool transpose_b, MatrixRef a, MatrixRef b,
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

double TailSum(const std::vector<double>& spectrum, int64_t rank) {
  double sum = 0;
  for (size_t j = spectrum.size(); j > static_cast<size_t>(rank); --j) sum += spectrum[j - 1];
  return sum;
}

double Trace(const std::vector<double>& k, int64_t p) {
  double trace = 0;
  for (int64_t i = 0; i < p; ++i) trace += k[static_cast<size_t>(i * p + i)];
  return trace;
}

// K = C G Cᵀ [p, p].
absl::StatusOr<Matrix> Project(const Decomposition& d, const Metric& metric, Backend& backend) {
  const MatrixRef c = d.core();
  if (metric.output_gram.data != nullptr) return CopyOf(metric.output_gram, backend);
  if (metric.gram.data != nullptr) {
    ASSIGN_OR_RETURN(const Matrix cg, Product(false, false, c, metric.gram, backend));
    return Product(false, true, cg, c, backend);
  }
  if (metric.scale.data != nullptr) {
    ASSIGN_OR_RETURN(const Matrix scaled, CopyOf(c, backend));
    RETURN_IF_ERROR(backend.ScaleCols(scaled, metric.scale));
    return Product(false, true, scaled, scaled, backend);
  }
  return Product(false, true, c, c, backend);
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
  ASSIGN_OR_RETURN(const Matrix projected, Product(false, false, leading, k, backend));
  ASSIGN_OR_RETURN(const double explained, backend.Dot(projected, leading));
  const double tail = TailSum(d.spectrum, rank);
  if (std::fabs(trace - explained - tail) <= 1e-6 * std::fabs(tail) + 1e-11 * trace)
    return absl::OkStatus();
  return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                   "eigendecomposition: unexplained energy " + std::to_string(trace - explained) +
                       " against " + std::to_string(tail) + " from the eigenvalues");
}

absl::StatusOr<std::vector<Decomposition>> DecomposeBatch(std::span<const DecomposeItem> items,
                                                          bool want_vectors, Backend& backend) {
  std::vector<Decomposition> decompositions;
  std::vector<Matrix> ks, destroyed;
  std::vector<EigenProblem> problems;
  for (const DecomposeItem& item : items) {
    ASSIGN_OR_RETURN(Decomposition d, Prepare(item, backend));
    ASSIGN_OR_RETURN(Matrix k, Project(d, item.metric, backend));
    ASSIGN_OR_RETURN(const bool finite, backend.AllFinite(k));
    if (!finite) {
      return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                       "W G Wᵀ is not finite: the weights or activations are too large");
    }
    const int64_t p = k.rows();
    ASSIGN_OR_RETURN(d.values, backend.New(1, p, DType::kF64));
    if (want_vectors) {
      ASSIGN_OR_RETURN(d.vectors, backend.New(p, p, DType::kF64));
      ASSIGN_OR_RETURN(Matrix copy, CopyOf(k, backend));
      destroyed.push_back(std::move(copy));
      problems.push_back({destroyed.back(), d.values, d.vectors});
    } else {
      problems.push_back({k, d.values, {}});
    }
    ks.push_back(std::move(k));
    decompositions.push_back(std::move(d));
  }
  std::vector<double> traces;
  for (const Matrix& k : ks) {
    ASSIGN_OR_RETURN(const std::vector<double> host, ToHost(k, backend));
    traces.push_back(Trace(host, k.rows()));
  }
  RETURN_IF_ERROR(backend.SymmetricEigen(problems));
  for (size_t i = 0; i < decompositions.size(); ++i) {
    Decomposition& d = decompositions[i];
    ASSIGN_OR_RETURN(d.spectrum, ToHost(d.values, backend));
    if (want_vectors) RETURN_IF_ERROR(Verify(d, ks[i], traces[i], backend));
  }
  return decompositions;
}

// b = Q u, a = v, balanced: u [p, k], v [k, n]; both may be destroyed.
absl::StatusOr<Factors> Balance(const Decomposition& d, Matrix u, Matrix v, Backend& backend) {
  Factors factors;
  if (d.q.empty()) {
    factors.b = std::move(u);
  } else {
    ASSIGN_OR_RETURN(factors.b, Product(false, false, d.q, u, backend));
  }
  factors.a = std::move(v);
  const int64_t rank = factors.a.rows();
  ASSIGN_OR_RETURN(const std::vector<double> a, ToHost(factors.a, backend));
  ASSIGN_OR_RETURN(const std::vector<double> b, ToHost(factors.b, backend));
  std::vector<double> a_squares(static_cast<size_t>(rank), 0), b_squares(a_squares);
  for (size_t i = 0; i < a.size(); ++i) {
    a_squares[i / static_cast<size_t>(factors.a.cols())] += a[i] * a[i];
  }
  for (size_t i = 0; i < b.size(); ++i) b_squares[i % static_cast<size_t>(rank)] += b[i] * b[i];
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
  RETURN_IF_ERROR(backend.ScaleCols(factors.b, scale.ref().Rows(1, 1)));
  return factors;
}

absl::StatusOr<Matrix> Residual(const Decomposition& d, MatrixRef approximation, Backend& backend) {
  ASSIGN_OR_RETURN(Matrix residual, CopyOf(approximation, backend));
  ASSIGN_OR_RETURN(const Matrix minus_one, backend.New(1, d.w.cols(), DType::kF64));
  const std::vector<double> values(static_cast<size_t>(d.w.cols()), -1.0);
  RETURN_IF_ERROR(backend.Upload(values.data(), DType::kF64, minus_one));
  RETURN_IF_ERROR(backend.ScaleCols(residual, minus_one));
  RETURN_IF_ERROR(backend.Add(d.w, residual));
  return residual;
}

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
  ASSIGN_OR_RETURN(const Matrix rotated, Product(false, true, b, vectors, backend));
  RETURN_IF_ERROR(backend.ScaleCols(rotated, values));
  return backend.Gemm(false, false, 1, rotated, vectors, 0, b);
}

}  // namespace

double Decomposition::Tail(int64_t rank) const { return std::max(TailSum(spectrum, rank), 0.0); }

absl::StatusOr<std::vector<Decomposition>> Decompose(std::span<const DecomposeItem> items,
                                                     Backend& backend) {
  return DecomposeBatch(items, true, backend);
}

absl::StatusOr<std::vector<Decomposition>> DecomposeValues(std::span<const DecomposeItem> items,
                                                           Backend& backend) {
  return DecomposeBatch(items, false, backend);
}

absl::StatusOr<Factors> Truncate(const Decomposition& d, int64_t rank, Backend& backend) {
  const MatrixRef p = d.vectors.ref().Rows(0, rank);
  ASSIGN_OR_RETURN(Matrix u, backend.New(p.cols, rank, DType::kF64));
  RETURN_IF_ERROR(backend.Transpose(p, u));
  ASSIGN_OR_RETURN(Matrix v, Product(false, false, p, d.core(), backend));
  return Balance(d, std::move(u), std::move(v), backend);
}

absl::StatusOr<UpdatedFactors> TruncateAndUpdate(const Decomposition& d, int64_t rank,
                                                 const Metric& metric, Backend& backend) {
  const MatrixRef p = d.vectors.ref().Rows(0, rank);  // U_kᵀ
  ASSIGN_OR_RETURN(const Matrix k, Project(d, metric, backend));
  ASSIGN_OR_RETURN(const bool finite, backend.AllFinite(k));
  if (!finite) {
    return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                     "update: W H Wᵀ is not finite: the compressed prefix diverged");
  }
  ASSIGN_OR_RETURN(Matrix correction, Product(false, true, k, p, backend));  // K′U [p, rank]
  ASSIGN_OR_RETURN(const Matrix m, Product(false, false, p, correction, backend));
  ASSIGN_OR_RETURN(Matrix u, CopyOf(correction, backend));  // kept for the loss below
  RETURN_IF_ERROR(backend.Gemm(true, false, -1, p, m, 1, correction));
  // The Cholesky factorisation destroys what it is given.
  ASSIGN_OR_RETURN(const Matrix m_copy, CopyOf(m, backend));
  const absl::Status solved = backend.SolveSpd(m_copy, correction);
  if (absl::IsFailedPrecondition(solved)) {
    ASSIGN_OR_RETURN(const Matrix again, CopyOf(m, backend));
    RETURN_IF_ERROR(SolveSingular(again, correction, backend));
  } else {
    RETURN_IF_ERROR(solved);
  }
  ASSIGN_OR_RETURN(Matrix updated, backend.New(p.cols, rank, DType::kF64));
  RETURN_IF_ERROR(backend.Transpose(p, updated));
  RETURN_IF_ERROR(backend.Add(correction, updated));

  // ‖(I − U*Uᵀ)W X′‖² = tr K′ − 2 tr(U*ᵀ K′U) + tr(U* M U*ᵀ)
  ASSIGN_OR_RETURN(const std::vector<double> k_host, ToHost(k, backend));
  const double trace = Trace(k_host, k.rows());
  ASSIGN_OR_RETURN(const double cross, backend.Dot(updated, u));
  ASSIGN_OR_RETURN(const Matrix um, Product(false, false, updated, m, backend));
  ASSIGN_OR_RETURN(const double square, backend.Dot(um, updated));

  UpdatedFactors result;
  result.relative_loss =
      trace > 0 ? std::sqrt(std::max(trace - 2 * cross + square, 0.0) / trace) : 0;
  ASSIGN_OR_RETURN(Matrix v, Product(false, false, p, d.core(), backend));
  ASSIGN_OR_RETURN(result.factors, Balance(d, std::move(updated), std::move(v), backend));
  return result;
}

absl::StatusOr<double> ResidualLoss(const Decomposition& d, MatrixRef approximation,
                                    const Metric& metric, Backend& backend) {
  ASSIGN_OR_RETURN(const Matrix residual, Residual(d, approximation, backend));
  if (metric.gram.data != nullptr) {
    ASSIGN_OR_RETURN(const Matrix rg, Product(false, false, residual, metric.gram, backend));
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
