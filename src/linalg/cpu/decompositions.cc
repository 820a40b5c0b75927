#include "linalg/cpu/decompositions.h"

#include <lapack.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

namespace svdllm::cpu {
namespace {

// A reciprocal condition number below this leaves no correct digits in an F64 solution.
constexpr double kSmallestCondition = 1e-14;

// Of the last pivot to the first: below this a column is a combination of those before it.
constexpr double kSmallestPivot = 1e-13;

// The row-major lower triangle is LAPACK's upper one.
constexpr char kUpper = 'U';

absl::Status Failed(const char* routine, lapack_int info) {
  return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                   std::string(routine) + " failed with info " + std::to_string(info));
}

lapack_int Int(int64_t n) { return static_cast<lapack_int>(n); }

}  // namespace

absl::Status SymmetricEigen(const EigenProblem& problem) {
  const int64_t n = problem.k.rows;
  if (n == 0) return absl::OkStatus();
  const bool want_vectors = problem.vectors.data != nullptr;
  // Workspaces by formula: the query's answer comes back rounded.
  const lapack_int lwork = Int(want_vectors ? 1 + 6 * n + 2 * n * n : 2 * n + 1);
  const lapack_int liwork = Int(want_vectors ? 3 + 5 * n : 1);
  std::vector<double> work(static_cast<size_t>(lwork));
  std::vector<lapack_int> iwork(static_cast<size_t>(liwork));
  std::vector<double> values(static_cast<size_t>(n));
  const char job = want_vectors ? 'V' : 'N';
  const lapack_int order = Int(n), stride = Int(problem.k.stride);
  lapack_int info = 0;
  LAPACK_dsyevd(&job, &kUpper, &order, problem.k.as<double>(), &stride, values.data(), work.data(),
                &lwork, iwork.data(), &liwork, &info);
  if (info != 0) return Failed("dsyevd", info);
  for (int64_t j = 0; j < n; ++j) {
    problem.values.as<double>()[j] = values[static_cast<size_t>(n - 1 - j)];
    if (!want_vectors) continue;
    const double* from = problem.k.row<double>(n - 1 - j);
    double* to = problem.vectors.row<double>(j);
    const double* largest = std::max_element(
        from, from + n, [](double a, double b) { return std::fabs(a) < std::fabs(b); });
    const double sign = *largest < 0 ? -1.0 : 1.0;
    for (int64_t i = 0; i < n; ++i) to[i] = sign * from[i];
  }
  return absl::OkStatus();
}

absl::Status ThinQr(MatrixRef q, MatrixRef r) {
  const int64_t m = q.rows, n = q.cols;
  if (n == 0) return absl::OkStatus();
  // wᵀ = L Q̂ to LAPACK is w = Q̂ᵀ Lᵀ to us.
  std::vector<double> tau(static_cast<size_t>(n));
  const lapack_int lwork = Int(n * 64);
  std::vector<double> work(static_cast<size_t>(lwork));
  const lapack_int rows = Int(n), cols = Int(m), stride = Int(q.stride);
  lapack_int info = 0;
  LAPACK_dgelqf(&rows, &cols, q.as<double>(), &stride, tau.data(), work.data(), &lwork, &info);
  if (info != 0) return Failed("dgelqf", info);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) r.row<double>(i)[j] = j < i ? 0.0 : q.row<double>(i)[j];
  }
  LAPACK_dorglq(&rows, &cols, &rows, q.as<double>(), &stride, tau.data(), work.data(), &lwork,
                &info);
  return info == 0 ? absl::OkStatus() : Failed("dorglq", info);
}

absl::Status SolveSpd(MatrixRef a, MatrixRef b) {
  const int64_t k = a.rows;
  if (k == 0 || b.rows == 0) return absl::OkStatus();
  double norm = 0;
  for (int64_t i = 0; i < k; ++i) {
    double sum = 0;
    for (int64_t j = 0; j < k; ++j) sum += std::fabs(a.row<double>(i)[j]);
    norm = std::max(norm, sum);
  }
  const absl::Status singular =
      absl::FailedPreconditionError("SolveSpd: the matrix is numerically singular");
  const lapack_int order = Int(k), stride = Int(a.stride);
  lapack_int info = 0;
  LAPACK_dpotrf(&kUpper, &order, a.as<double>(), &stride, &info);
  if (info > 0) return singular;
  if (info != 0) return Failed("dpotrf", info);
  std::vector<double> work(static_cast<size_t>(3 * k));
  std::vector<lapack_int> iwork(static_cast<size_t>(k));
  double condition = 0;
  LAPACK_dpocon(&kUpper, &order, a.as<double>(), &stride, &norm, &condition, work.data(),
                iwork.data(), &info);
  if (info != 0) return Failed("dpocon", info);
  if (!(condition > kSmallestCondition)) return singular;
  // a xᵀ = bᵀ, and bᵀ is what b's memory is to LAPACK.
  const lapack_int count = Int(b.rows), b_stride = Int(b.stride);
  LAPACK_dpotrs(&kUpper, &order, &count, a.as<double>(), &stride, b.as<double>(), &b_stride, &info);
  return info == 0 ? absl::OkStatus() : Failed("dpotrs", info);
}

absl::Status Interpolative(MatrixRef x, std::span<int32_t> pivots, MatrixRef t) {
  const int64_t k = x.rows, m = x.cols;
  if (k == 0) return absl::OkStatus();
  // Pivots are columns of x to LAPACK too: x itself, not its transpose.
  std::vector<double> columns(static_cast<size_t>(k * m));
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t j = 0; j < m; ++j) columns[static_cast<size_t>(j * k + i)] = x.row<double>(i)[j];
  }
  std::vector<lapack_int> order(static_cast<size_t>(m), 0);  // 0: free to move
  std::vector<double> tau(static_cast<size_t>(k));
  const lapack_int rows = Int(k), cols = Int(m), others = Int(m - k),
                   lwork = Int(2 * m + (m + 1) * 64);
  std::vector<double> work(static_cast<size_t>(lwork));
  lapack_int info = 0;
  LAPACK_dgeqp3(&rows, &cols, columns.data(), &rows, order.data(), tau.data(), work.data(), &lwork,
                &info);
  if (info != 0) return Failed("dgeqp3", info);
  const double first = std::fabs(columns[0]);
  for (int64_t i = 0; i < k; ++i) {
    // The comparison fails for a NaN too.
    if (!(std::fabs(columns[static_cast<size_t>(i * k + i)]) > kSmallestPivot * first)) {
      return absl::FailedPreconditionError("Interpolative: the matrix is numerically of rank " +
                                           std::to_string(i) + ", not " + std::to_string(k));
    }
  }
  if (m > k) {
    // R = [R1 R2]: the other columns are the pivots times R1⁻¹ R2.
    const char upper = 'U', plain = 'N';
    LAPACK_dtrtrs(&upper, &plain, &plain, &rows, &others, columns.data(), &rows,
                  columns.data() + k * k, &rows, &info);
    if (info != 0) return Failed("dtrtrs", info);
  }
  const auto ascending = [&order](int64_t begin, int64_t end) {
    std::vector<int64_t> positions(static_cast<size_t>(end - begin));
    std::iota(positions.begin(), positions.end(), begin);
    std::sort(positions.begin(), positions.end(), [&order](int64_t a, int64_t b) {
      return order[static_cast<size_t>(a)] < order[static_cast<size_t>(b)];
    });
    return positions;
  };
  const std::vector<int64_t> pivot_at = ascending(0, k), rest_at = ascending(k, m);
  for (int64_t j = 0; j < k; ++j) {
    const auto at = static_cast<size_t>(pivot_at[static_cast<size_t>(j)]);
    pivots[static_cast<size_t>(j)] = static_cast<int32_t>(order[at] - 1);
  }
  for (int64_t i = 0; i < m - k; ++i) {
    const double* from = columns.data() + rest_at[static_cast<size_t>(i)] * k;
    for (int64_t j = 0; j < k; ++j) t.row<double>(i)[j] = from[pivot_at[static_cast<size_t>(j)]];
  }
  return absl::OkStatus();
}

}  // namespace svdllm::cpu
