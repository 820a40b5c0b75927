// The optimal low-rank approximation of a weight matrix, for every rank at once and without an
// inverse. W [m, n] maps x to W x; G [n, n] is the metric of the method (lowrank/method.h):
//
//   K = W G Wᵀ = Σ_j λ_j u_j u_jᵀ     W′ = U_k U_kᵀ W     ‖(W − W′) R‖_F² = Σ_{j>k} λ_j,  R Rᵀ = G
//
// which equals truncating the SVD of W R and multiplying by R⁻¹, exact for singular G too. A tall W
// (m > n) goes through its thin QR, W = Q C, with K = C G Cᵀ, so that every eigenproblem has order
// p = min(m, n). All matrices are F64 and belong to the backend; nothing here is thread-safe.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "linalg/backend.h"
#include "lowrank/factors.h"

namespace svdllm {

struct Decomposition {
  Matrix w;        // [m, n]
  Matrix q;        // [m, p]; empty where m ≤ n, Q = I
  Matrix c;        // [p, n]; empty where m ≤ n, C = W
  Matrix values;   // [1, p] λ, descending
  Matrix vectors;  // [p, p], row j is u_j (in the coordinates of Q); empty where only values were
                   // asked for
  // λ on the host. A Gram matrix of fewer tokens than channels has eigenvalues of zero, which the
  // single-precision products behind it turn into small ones of either sign.
  std::vector<double> spectrum;

  MatrixRef core() const { return c.empty() ? w.ref() : c.ref(); }
  // Σ_{j>rank} λ_j, summed from the smallest; 0 where rounding makes it negative.
  double Tail(int64_t rank) const;
};

struct DecomposeItem {
  MatrixRef weight;  // [m, n] of any floating-point type
  Metric metric;
};

// Decompositions whose eigenproblems are being solved, in one batch, while the backend does other
// things. Must not outlive it; what the items refer to is no longer needed.
class PendingDecompositions {
 public:
  // values_only: spectra, a fraction of the work.
  static absl::StatusOr<PendingDecompositions> Start(std::span<const DecomposeItem> items,
                                                     bool values_only, Backend& backend);
  // Waits for them. To be called once; the errors of Decompose.
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

// Decomposes several matrices. NUMERICAL_FAILURE where a metric
// is not finite, or where the trace that the eigenvectors explain does not match the eigenvalues to
// 1e-6.
absl::StatusOr<std::vector<Decomposition>> Decompose(std::span<const DecomposeItem> items,
                                                     Backend& backend);

// The optimum of rank k: b a = U_k U_kᵀ W, b = U_k.
absl::StatusOr<Factors> Truncate(const Decomposition& decomposition, int64_t rank,
                                 Backend& backend);

// Factors of one rank, with their loss ‖(W − W′) R‖_F / ‖W R‖_F in the metric that judges them.
struct CutFactors {
  Factors factors;
  double relative_loss = 0;
};
// judge: the metric that the factors are judged in; the decomposition's own, but for methods that
// refit.
using CutFunction = absl::StatusOr<CutFactors> (*)(const Decomposition& decomposition, int64_t rank,
                                                   const Metric& judge, Backend& backend);

// Truncate, with the loss that the eigenvalues give.
absl::StatusOr<CutFactors> Cut(const Decomposition& decomposition, int64_t rank,
                               const Metric& judge, Backend& backend);

// The layer-wise closed-form update: V = U_kᵀ W stays, and U is refitted to the inputs X′ that the
// already compressed model produces, H = X′ X′ᵀ (judge, as above, of X′):
//   U* = argmin ‖W X′ − U V X′‖_F = (W H) Vᵀ (V H Vᵀ)⁻¹
// computed as U_k plus a correction that a pseudo-inverse gives where V H Vᵀ is singular, so that
// directions which X′ does not excite stay as they were. With X′ = X it is the identity.
// The factors are not balanced.
absl::StatusOr<CutFactors> CutAndUpdate(const Decomposition& decomposition, int64_t rank,
                                        const Metric& judge, Backend& backend);

// ‖(W − approximation) R‖_F²: approximation F64 [m, n]. The metric must not be an output Gram.
absl::StatusOr<double> ResidualLoss(const Decomposition& decomposition, MatrixRef approximation,
                                    const Metric& metric, Backend& backend);
// ‖(W − approximation) X‖_F² over some inputs, for matrices whose metric is an output Gram: xt F32
// [rows, n], a row a token.
absl::StatusOr<double> SampledLoss(const Decomposition& decomposition, MatrixRef approximation,
                                   MatrixRef xt, Backend& backend);

}  // namespace svdllm
