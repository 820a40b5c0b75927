// A low-rank matrix W′ [m, n] of rank k in its two encodings. F64 matrices that belong to the
// backend; nothing here is thread-safe.
#pragma once

#include <cstdint>
#include <vector>

#include "linalg/backend.h"

namespace svdllm {

// The metric G of a loss ‖(W − W′) R‖_F, R Rᵀ = G; at most one member is set, none means G = I.
// Views: the owner must outlive the use.
struct Metric {
  MatrixRef gram;         // [n, n]
  MatrixRef scale;        // [1, n]: G = diag(scale²)
  MatrixRef output_gram;  // [m, m]: W G Wᵀ, gathered as Y Yᵀ where m < n makes that smaller than G
};

// W′ = b a, or pivoted (arXiv 2501.19090): k of the rows of W′ and the coefficients of the others
// in them; row i of W′ is then row order[i] of a and b a on top of each other.
struct Factors {
  Matrix a;                    // [k, n]; pivoted: the pivot rows of W′, in their order there
  Matrix b;                    // [m, k]; pivoted: [m − k, k]
  std::vector<int32_t> order;  // [m]; empty where not pivoted

  bool pivoted() const { return !order.empty(); }
};

// The same product, scaled so that row i of a and column i of b have the same norm: neither then
// overflows nor loses digits in a 16-bit format. factors: not pivoted.
absl::Status Balance(Factors& factors, Backend& backend);

// The same product, pivoted, up to rounding: the pivot rows are those that a column-pivoted QR
// factorisation of bᵀ takes, which keeps the coefficients small. NUMERICAL_FAILURE where b has not
// full rank. factors: not pivoted, not balanced, so that b's columns are orthonormal or nearly.
absl::StatusOr<Factors> Pivot(const Factors& factors, Backend& backend);

// Fits the coefficients of pivoted factors to W [m, n] anew, their pivot rows being as they were
// rounded:
//   b = argmin ‖(W_rest − b a) R‖_F = W_rest G aᵀ (a G aᵀ)⁻¹
// in a metric that is not an output Gram.
absl::Status RefitPivoted(MatrixRef w, const Metric& metric, Factors& factors, Backend& backend);

// W′ [m, n].
absl::StatusOr<Matrix> Multiply(const Factors& factors, Backend& backend);

}  // namespace svdllm
