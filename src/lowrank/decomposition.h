// The optimal low-rank approximation of a weight matrix, for every rank at once and without an
// inverse. W [m, n] maps x to W x; G [n, n] is the metric of the method (lowrank/method.h):
//
//   K = W G Wᵀ = Σ_j λ_j u_j u_jᵀ     W′ = U_k U_kᵀ W     ‖(W − W′) R‖_F² = Σ_{j>k} λ_j,  R Rᵀ = G
//
// This equals truncating the SVD of W R and multiplying by R⁻¹, and is exact for singular G too. A
// tall W (m > n) goes through its thin QR, W = Q C, with K = C G Cᵀ, so that every eigenproblem has
// order p = min(m, n). All matrices are F64 and belong to the backend. Nothing here is thread-safe.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "linalg/backend.h"
#include "lowrank/factors.h"

namespace svdllm {

struct Decomposition {
  Matrix w;       // [m, n]
  Matrix q;       // [m, p]; empty where m ≤ n, Q = I
  Matrix c;       // [p, n]; empty where m ≤ n, C = W
  Matrix values;  // [1, p] λ, descending
  // [p, p]; row j is u_j, in the coordinates of Q. Empty where only values were asked for.
  Matrix vectors;
  // λ in the host's memory: spectrum[0] is the largest. A Gram matrix of fewer tokens than channels
  // has eigenvalues of zero, which the single-precision products behind it turn into small ones of
  // either sign.
  std::vector<double> spectrum;

  MatrixRef core() const { return c.empty() ? w.ref() : c.ref(); }
  // Returns Σ_{j>rank} λ_j, summed from the smallest. Where rounding makes the sum negative it is
  // 0.
  double Tail(int64_t rank) const;
};

struct DecomposeItem {
  MatrixRef weight;  // [m, n] of any floating-point type
  Metric metric;
};

// Decompositions whose eigenproblems are being solved in one batch, while the backend does other
// things. It must not outlive the backend. What the items refer to is no longer needed once it has
// started.
class PendingDecompositions {
 public:
  // With values_only, only the spectra are computed, for a fraction of the work.
  static absl::StatusOr<PendingDecompositions> Start(std::span<const DecomposeItem> items,
                                                     bool values_only, Backend& backend);
  // Waits for them. Call it once. Errors are those of Decompose.
  absl::StatusOr<std::vector<Decomposition>> Finish();

 private:
  struct Problem {
    Decomposition decomposition;
    Matrix k;  // with values_only destroyed
    Matrix destroyed;
    double trace = 0;
  };
  Backend* backend_ = nullptr;
  bool values_only_ = false;
  std::vector<Problem> problems_;
  std::unique_ptr<PendingEigen> pending_;  // goes first: it waits
};

// Decomposes several matrices. NUMERICAL_FAILURE where a metric is not finite, or where the trace
// that the eigenvectors explain does not match the eigenvalues to 1e-6.
absl::StatusOr<std::vector<Decomposition>> Decompose(std::span<const DecomposeItem> items,
                                                     Backend& backend);

// Returns the optimum of rank k: b a = U_k U_kᵀ W with b = U_k.
absl::StatusOr<Factors> Truncate(const Decomposition& decomposition, int64_t rank,
                                 Backend& backend);

// Factors of one rank, with their loss ‖(W − W′) R‖_F / ‖W R‖_F in the metric that they are judged
// in.
struct CutFactors {
  Factors factors;
  double relative_loss = 0;
};
// Cuts a decomposition to a rank. `judge` is the metric that the factors are judged in: the
// decomposition's own, except for methods that refit.
using CutFunction = absl::StatusOr<CutFactors> (*)(const Decomposition& decomposition, int64_t rank,
                                                   const Metric& judge, Backend& backend);

// Truncates, and takes the loss from the eigenvalues.
absl::StatusOr<CutFactors> Cut(const Decomposition& decomposition, int64_t rank,
                               const Metric& judge, Backend& backend);

// The layer-wise closed-form update. V = U_kᵀ W stays, and U is refitted to the inputs X′ that the
// already compressed model produces; `judge` holds H = X′ X′ᵀ:
//   U* = argmin ‖W X′ − U V X′‖_F = (W H) Vᵀ (V H Vᵀ)⁻¹
// It is computed as U_k plus a correction. Where V H Vᵀ is singular, a pseudo-inverse gives the
// correction, so that directions which X′ does not excite stay as they were. With X′ = X the update
// changes nothing. The factors are not balanced.
absl::StatusOr<CutFactors> CutAndUpdate(const Decomposition& decomposition, int64_t rank,
                                        const Metric& judge, Backend& backend);

// Returns ‖(W − approximation) R‖_F². `approximation` is F64 [m, n]. The metric must not be an
// output Gram.
absl::StatusOr<double> ResidualLoss(const Decomposition& decomposition, MatrixRef approximation,
                                    const Metric& metric, Backend& backend);
// Returns ‖(W − approximation) X‖_F² over some inputs, for matrices whose metric is an output Gram.
// `xt` is F32 [rows, n], one row per token.
absl::StatusOr<double> SampledLoss(const Decomposition& decomposition, MatrixRef approximation,
                                   MatrixRef xt, Backend& backend);

}  // namespace svdllm
