// The target of the anchored method: what a layer should compute on the inputs X′ that the already
// compressed model gives it, in order to come out where the dense model does on X.
//
//   W* = argmin ‖(1−β) W X′ + β W X − W* X′‖² + μ‖W* − W‖²
//      = W + β W D (H + μ I)⁻¹,   D = (X − X′) X′ᵀ,  H = X′ X′ᵀ
//
// W* is then truncated in the metric H + μ I. The formula has D and not X X′ᵀ: so the target is W
// itself where both models agree, whatever H's rounding is. With X′ = X the method is plain
// whitening.
#pragma once

#include "linalg/backend.h"

namespace svdllm {

// Adds μ I to H, with μ = ridge · tr(H)/n. h is F64 [n, n].
absl::Status AddRidge(double ridge, MatrixRef h, Backend& backend);

// A matrix that reads a site. All of a site's readers have the same H.
struct AnchoredItem {
  MatrixRef weight;  // F32 [m, n]
  MatrixRef drift;   // F64: D [n, n], or, where drift_is_output, W D [m, n], which is overwritten
  bool drift_is_output = false;
};
// Returns the target W*, F64 [m, n]. `ridged` is H + μ I.
absl::StatusOr<Matrix> AnchoredTarget(const AnchoredItem& item, MatrixRef ridged, double blend,
                                      Backend& backend);

}  // namespace svdllm
