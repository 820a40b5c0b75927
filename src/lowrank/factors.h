// A low-rank matrix W′ [m, n] of rank k in its two encodings. All matrices are F64 and belong to
// the backend. Nothing here is thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "linalg/backend.h"

namespace svdllm {

// The metric G of a loss ‖(W − W′) R‖_F, with R Rᵀ = G. At most one member is set; none means G =
// I. The members are views: their owner must outlive the use.
struct Metric {
  MatrixRef gram;         // [n, n]
  MatrixRef scale;        // [1, n]: G = diag(scale²)
  MatrixRef output_gram;  // [m, m]: W G Wᵀ, gathered as Y Yᵀ where m < n makes that smaller than G
};

// W′ = b a, or pivoted (arXiv 2501.19090): k of the rows of W′, and the coefficients of the other
// rows in them. Row i of W′ is then row order[i] of a and b a on top of each other. With k = 2 and
// order = {2, 0, 3, 1}, row 1 of W′ is the first pivot row, and row 0 is the first row of b a.
struct Factors {
  Matrix a;                    // [k, n]; pivoted: the pivot rows of W′, in their order there
  Matrix b;                    // [m, k]; pivoted: [m − k, k]
  std::vector<int32_t> order;  // [m]; empty where not pivoted

  bool pivoted() const { return !order.empty(); }
};

// Keeps the product and scales the factors so that row i of a and column i of b have the same norm.
// Neither then overflows or loses digits in a 16-bit format. The factors are not pivoted.
absl::Status Balance(Factors& factors, Backend& backend);

// Returns the same product, up to rounding, as pivoted factors. The pivot rows are those that a
// column-pivoted QR factorisation of bᵀ takes, which keeps the coefficients small.
// NUMERICAL_FAILURE where b has not full rank. The given factors are neither pivoted nor balanced,
// so that b's columns are orthonormal or nearly so.
absl::StatusOr<Factors> Pivot(const Factors& factors, Backend& backend);

// Fits the coefficients of pivoted factors to W [m, n] anew. The pivot rows stay as they were
// rounded:
//   b = argmin ‖(W_rest − b a) R‖_F = W_rest G aᵀ (a G aᵀ)⁻¹
// The metric must not be an output Gram.
absl::Status RefitPivoted(MatrixRef w, const Metric& metric, Factors& factors, Backend& backend);

// Returns W′ [m, n].
absl::StatusOr<Matrix> Multiply(const Factors& factors, Backend& backend);

}  // namespace svdllm
