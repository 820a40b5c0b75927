#include "lowrank/anchored.h"

#include <vector>

#include "lowrank/dense_ops.h"

namespace svdllm {

absl::Status AddRidge(double ridge, MatrixRef h, Backend& backend) {
  const MatrixRef diagonal{h.data, h.rows, 1, h.stride + 1, DType::kF64};
  ASSIGN_OR_RETURN(const std::vector<double> values, ToHost(diagonal, backend));
  double trace = 0;
  for (const double value : values) trace += value;
  ASSIGN_OR_RETURN(const Matrix mu, backend.New(h.rows, 1, DType::kF64));
  const std::vector<double> host(values.size(),
                                 values.empty() ? 0 : ridge * trace / static_cast<double>(h.rows));
  RETURN_IF_ERROR(backend.Upload(host.data(), DType::kF64, mu));
  return backend.Add(1, mu, diagonal);
}

absl::StatusOr<Matrix> AnchoredTarget(const AnchoredItem& item, MatrixRef ridged, double blend,
                                      Backend& backend) {
  ASSIGN_OR_RETURN(Matrix target, CopyOf(item.weight, backend));
  if (blend == 0) return target;
  Matrix product;
  MatrixRef correction = item.drift;
  if (!item.drift_is_output) {
    ASSIGN_OR_RETURN(product, MatMul(false, false, target, item.drift, backend));
    correction = product;
  }
  RETURN_IF_ERROR(SolveGram(ridged, correction, backend));
  RETURN_IF_ERROR(backend.Add(blend, correction, target));
  return target;
}

}  // namespace svdllm
