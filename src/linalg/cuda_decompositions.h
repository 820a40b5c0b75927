// cuSOLVER and our own kernels behind row-major views: a row-major matrix is its transpose to the
// libraries. F64; operands are checked before (backend.h has the contracts).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "linalg/backend.h"
#include "linalg/cuda_device.h"

namespace svdllm::cuda {

// Solves a batch of symmetric eigenproblems on several streams at once: the solver's reduction to
// tridiagonal form leaves most of a device idle, and a part of it runs on the host.
class EigenSolver {
 public:
  explicit EigenSolver(std::shared_ptr<Device> device);
  ~EigenSolver();
  EigenSolver(const EigenSolver&) = delete;
  EigenSolver& operator=(const EigenSolver&) = delete;

  absl::Status Solve(std::span<const EigenProblem> problems);

 private:
  struct Lane;

  // At most count lanes, with memory for the largest problem: one at least, or an error.
  absl::Status Prepare(std::span<const EigenProblem> problems, size_t count);

  std::shared_ptr<Device> device_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

absl::Status ThinQr(const std::shared_ptr<Device>& device, MatrixRef w, MatrixRef q, MatrixRef r);
absl::Status SolveSpd(const std::shared_ptr<Device>& device, MatrixRef a, MatrixRef b);
absl::Status Interpolative(const std::shared_ptr<Device>& device, MatrixRef x,
                           std::span<int32_t> pivots, MatrixRef t);

}  // namespace svdllm::cuda
