// The target of the anchored method: what a layer should compute on the inputs X′ that the already
// compressed model gives it, in order to come out where the dense model does on X.
//
//   W* = argmin ‖(1−β) W X′ + β W X − W* X′‖² + μ‖W* − W‖²
//      = W + β W D (H + μ I)⁻¹,   D = (X − X′) X′ᵀ,  H = X′ X′ᵀ
//
// It is then truncated in the metric H + μ I. D instead of X X′ᵀ: where both models agree the
// target is W itself, whatever H's rounding; with X′ = X the method is whitening.
#pragma once

#include "linalg/backend.h"

namespace svdllm {

// H += μ I with μ = ridge · tr(H)/n. h F64 [n, n].
absl::Status AddRidge(double ridge, MatrixRef h, Backend& backend);

// The matrices that read one site, all with the same H.
struct AnchoredItem {
  MatrixRef weight;  // F32 [m, n]
  MatrixRef drift;   // F64: D [n, n], or, where drift_is_output, W D [m, n], which is overwritten
  bool drift_is_output = false;
};
// W*, F64 [m, n]. ridged: H + μ I.
absl::StatusOr<Matrix> AnchoredTarget(const AnchoredItem& item, MatrixRef ridged, double blend,
                                      Backend& backend);

}  // namespace svdllm
