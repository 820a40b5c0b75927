// cuSOLVER and our own kernels behind row-major views: a row-major matrix is its transpose to the
// libraries. F64. The operands are checked already (backend.h has the contracts).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "linalg/backend.h"
#include "linalg/cuda/device.h"

namespace svdllm::cuda {

// Solves batches of symmetric eigenproblems beside the compute stream, several problems at a time:
// the solver's reduction to tridiagonal form leaves most of a device idle, and a part of it runs on
// the host.
class EigenSolver {
 public:
  explicit EigenSolver(std::shared_ptr<Device> device);
  ~EigenSolver();
  EigenSolver(const EigenSolver&) = delete;
  EigenSolver& operator=(const EigenSolver&) = delete;

  // Begins a batch where the compute stream stands. What it returns must not outlive this object.
  absl::StatusOr<std::unique_ptr<PendingEigen>> Start(std::span<const EigenProblem> problems);

 private:
  struct Lane;
  class Batch;

  absl::StatusOr<std::unique_ptr<Lane>> TakeLane();
  // Takes lanes for a batch, with memory for its largest problem: at least one lane, or an error.
  absl::Status Prepare(Batch& batch);

  std::shared_ptr<Device> device_;
  std::vector<std::unique_ptr<Lane>> idle_;
};

absl::Status ThinQr(const std::shared_ptr<Device>& device, MatrixRef w, MatrixRef q, MatrixRef r);
absl::Status SolveSpd(const std::shared_ptr<Device>& device, MatrixRef a, MatrixRef b);
absl::Status Interpolative(const std::shared_ptr<Device>& device, MatrixRef x,
                           std::span<int32_t> pivots, MatrixRef t);

}  // namespace svdllm::cuda
