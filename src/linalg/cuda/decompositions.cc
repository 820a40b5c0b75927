#include "linalg/cuda/decompositions.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "linalg/cuda/kernels.h"

namespace svdllm::cuda {
namespace {

// As on the CPU: a reciprocal condition number below this leaves no correct digits in a solution.
constexpr double kSmallestCondition = 1e-14;
// Of the last pivot to the first: below this a column is a combination of those before it.
constexpr double kSmallestPivot = 1e-13;
// Refinements of the condition's estimate; more hardly ever change it.
constexpr int kConditionSteps = 5;

// The row-major lower triangle is the libraries' upper one.
constexpr cublasFillMode_t kLower = CUBLAS_FILL_MODE_UPPER;

// Device memory of the length of a call.
class Scratch {
 public:
  explicit Scratch(const std::shared_ptr<Device>& device) : device_(device) {}

  template <typename T>
  absl::StatusOr<T*> Get(int64_t count) {
    ASSIGN_OR_RETURN(std::shared_ptr<void> memory,
                     Device::Allocate(device_, count * static_cast<int64_t>(sizeof(T))));
    memory_.push_back(std::move(memory));
    return static_cast<T*>(memory_.back().get());
  }

 private:
  std::shared_ptr<Device> device_;
  std::vector<std::shared_ptr<void>> memory_;
};

MatrixRef Row(void* data, int64_t count, DType dtype) { return {data, 1, count, count, dtype}; }

// What the solver left in info, once everything before has run.
absl::StatusOr<int> ReadInfo(Device& device, int* info) {
  int32_t found = 0;
  RETURN_IF_ERROR(device.Download(Row(info, 1, DType::kI32), &found, DType::kI32));
  return found;
}

absl::Status Failed(const char* routine, int info) {
  return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                   std::string(routine) + " failed with info " + std::to_string(info));
}

// status; where it is an error, when the device is done with the host memory of a call before.
absl::Status Settled(const Device& device, absl::Status status) {
  if (!status.ok()) device.Synchronize("decomposition").IgnoreError();
  return status;
}

// The 1-norm of a's inverse from its factor, by Hager's and Higham's method: a lower bound that is
// rarely far off. vector: k elements on the device.
absl::StatusOr<double> InverseNorm(Device& device, MatrixRef factor, double* vector, int* info) {
  const int64_t k = factor.rows;
  const MatrixRef ref = Row(vector, k, DType::kF64);
  std::vector<double> x(static_cast<size_t>(k), 1.0 / static_cast<double>(k));
  const auto solve = [&]() -> absl::Status {
    RETURN_IF_ERROR(device.Upload(x.data(), DType::kF64, ref));
    RETURN_IF_ERROR(
        Check("cusolverDnXpotrs",
              cusolverDnXpotrs(device.solver(), device.params(), kLower, k, 1, CUDA_R_64F,
                               factor.data, factor.stride, CUDA_R_64F, vector, k, info)));
    return device.Download(ref, x.data(), DType::kF64);
  };
  const auto sum_of_solution = [&] {
    double sum = 0;
    for (const double value : x) sum += std::fabs(value);
    return sum;
  };
  double norm = 0;
  for (int step = 0; step < kConditionSteps; ++step) {
    RETURN_IF_ERROR(solve());
    const double sum = sum_of_solution();
    if (!std::isfinite(sum)) return std::numeric_limits<double>::infinity();
    if (sum <= norm) break;
    norm = sum;
    for (double& value : x) value = value < 0 ? -1.0 : 1.0;
    RETURN_IF_ERROR(solve());
    const auto steepest = std::max_element(
        x.begin(), x.end(), [](double a, double b) { return std::fabs(a) < std::fabs(b); });
    const auto at = static_cast<size_t>(steepest - x.begin());
    std::fill(x.begin(), x.end(), 0.0);
    x[at] = 1;
  }
  // Where cancellation has hidden the growth from the steps, an alternating vector finds it, as
  // LAPACK's does.
  for (size_t i = 0; i < x.size(); ++i) {
    const double size =
        1 + static_cast<double>(i) / static_cast<double>(std::max<int64_t>(k - 1, 1));
    x[i] = i % 2 == 0 ? size : -size;
  }
  RETURN_IF_ERROR(solve());
  const double alternating = 2 * sum_of_solution() / (3 * static_cast<double>(k));
  if (!std::isfinite(alternating)) return std::numeric_limits<double>::infinity();
  return std::max(norm, alternating);
}

}  // namespace

absl::Status ThinQr(const std::shared_ptr<Device>& device, MatrixRef w, MatrixRef q, MatrixRef r) {
  const int64_t m = w.rows, n = w.cols;
  if (n == 0) return absl::OkStatus();
  if (m > std::numeric_limits<int>::max()) return absl::InternalError("ThinQr: too many rows");
  const cudaStream_t stream = device->Use();
  const cusolverDnHandle_t solver = device->solver();
  Scratch scratch(device);
  // The libraries factor columns: wᵀ, row-major, is w to them.
  ASSIGN_OR_RETURN(double* const data, scratch.Get<double>(n * m));
  ASSIGN_OR_RETURN(double* const tau, scratch.Get<double>(n));
  ASSIGN_OR_RETURN(int* const info, scratch.Get<int>(1));
  const MatrixRef columns{data, n, m, m, DType::kF64};
  Transpose(w, columns, stream);
  RETURN_IF_ERROR(device->Launched("ThinQr"));
  size_t device_bytes = 0, host_bytes = 0;
  RETURN_IF_ERROR(
      Check("cusolverDnXgeqrf_bufferSize",
            cusolverDnXgeqrf_bufferSize(solver, device->params(), m, n, CUDA_R_64F, data, m,
                                        CUDA_R_64F, tau, CUDA_R_64F, &device_bytes, &host_bytes)));
  int lwork = 0;
  const int rows = static_cast<int>(m), cols = static_cast<int>(n);
  RETURN_IF_ERROR(
      Check("cusolverDnDorgqr_bufferSize",
            cusolverDnDorgqr_bufferSize(solver, rows, cols, cols, data, rows, tau, &lwork)));
  ASSIGN_OR_RETURN(double* const work,
                   scratch.Get<double>(std::max<int64_t>(
                       {int64_t{lwork}, static_cast<int64_t>(device_bytes + 7) / 8, 1})));
  std::vector<char> host(host_bytes);
  // In place, and so not to be tried again, as the factorisation below.
  RETURN_IF_ERROR(Settled(
      *device,
      Check("cusolverDnXgeqrf",
            cusolverDnXgeqrf(solver, device->params(), m, n, CUDA_R_64F, data, m, CUDA_R_64F, tau,
                             CUDA_R_64F, work, device_bytes, host.data(), host_bytes, info))));
  ASSIGN_OR_RETURN(const int factored, ReadInfo(*device, info));
  if (factored != 0) return Failed("cusolverDnXgeqrf", factored);
  UpperOfTranspose(columns, r, stream);
  RETURN_IF_ERROR(device->Launched("ThinQr"));
  RETURN_IF_ERROR(Check("cusolverDnDorgqr", cusolverDnDorgqr(solver, rows, cols, cols, data, rows,
                                                             tau, work, lwork, info)));
  Transpose(columns, q, stream);
  RETURN_IF_ERROR(device->Launched("ThinQr"));
  ASSIGN_OR_RETURN(const int formed, ReadInfo(*device, info));
  return formed == 0 ? absl::OkStatus() : Failed("cusolverDnDorgqr", formed);
}

absl::Status SolveSpd(const std::shared_ptr<Device>& device, MatrixRef a, MatrixRef b) {
  const int64_t k = a.rows;
  if (k == 0 || b.rows == 0) return absl::OkStatus();
  const cudaStream_t stream = device->Use();
  const cusolverDnHandle_t solver = device->solver();
  Scratch scratch(device);
  ASSIGN_OR_RETURN(double* const vector, scratch.Get<double>(k));
  ASSIGN_OR_RETURN(int* const info, scratch.Get<int>(1));
  AbsSums(a, vector, stream);
  RETURN_IF_ERROR(device->Launched("SolveSpd"));
  std::vector<double> sums(static_cast<size_t>(k));
  RETURN_IF_ERROR(device->Download(Row(vector, k, DType::kF64), sums.data(), DType::kF64));
  const double norm = *std::max_element(sums.begin(), sums.end());
  size_t device_bytes = 0, host_bytes = 0;
  RETURN_IF_ERROR(
      Check("cusolverDnXpotrf_bufferSize",
            cusolverDnXpotrf_bufferSize(solver, device->params(), kLower, k, CUDA_R_64F, a.data,
                                        a.stride, CUDA_R_64F, &device_bytes, &host_bytes)));
  ASSIGN_OR_RETURN(char* const work,
                   scratch.Get<char>(std::max<int64_t>(static_cast<int64_t>(device_bytes), 1)));
  std::vector<char> host(host_bytes);
  RETURN_IF_ERROR(Settled(
      *device,
      Check("cusolverDnXpotrf",
            cusolverDnXpotrf(solver, device->params(), kLower, k, CUDA_R_64F, a.data, a.stride,
                             CUDA_R_64F, work, device_bytes, host.data(), host_bytes, info))));
  ASSIGN_OR_RETURN(const int factored, ReadInfo(*device, info));
  if (factored < 0) return Failed("cusolverDnXpotrf", factored);
  const absl::Status singular =
      absl::FailedPreconditionError("SolveSpd: the matrix is numerically singular");
  if (factored > 0) return singular;
  ASSIGN_OR_RETURN(const double inverse, InverseNorm(*device, a, vector, info));
  // The comparison fails for a NaN too.
  if (!(1.0 / (norm * inverse) > kSmallestCondition)) return singular;
  // a xᵀ = bᵀ, and bᵀ is what b's memory is to the libraries.
  RETURN_IF_ERROR(Check("cusolverDnXpotrs",
                        cusolverDnXpotrs(solver, device->params(), kLower, k, b.rows, CUDA_R_64F,
                                         a.data, a.stride, CUDA_R_64F, b.data, b.stride, info)));
  ASSIGN_OR_RETURN(const int solved, ReadInfo(*device, info));
  return solved == 0 ? absl::OkStatus() : Failed("cusolverDnXpotrs", solved);
}

absl::Status Interpolative(const std::shared_ptr<Device>& device, MatrixRef x,
                           std::span<int32_t> pivots, MatrixRef t) {
  const int64_t k = x.rows, m = x.cols;
  if (k == 0) return absl::OkStatus();
  const cudaStream_t stream = device->Use();
  Scratch scratch(device);
  ASSIGN_OR_RETURN(int32_t* const chosen, scratch.Get<int32_t>(k));
  ASSIGN_OR_RETURN(double* const diagonal, scratch.Get<double>(k));
  ASSIGN_OR_RETURN(double* const norms, scratch.Get<double>(m));
  ASSIGN_OR_RETURN(double* const reflector, scratch.Get<double>(k + 1));
  ASSIGN_OR_RETURN(int32_t* const free, scratch.Get<int32_t>(m));
  const PivotedQr qr{x, chosen, diagonal, norms, reflector, free};
  BeginPivotedQr(qr, stream);
  for (int64_t step = 0; step < k; ++step) {
    device->Pace();
    StepOfPivotedQr(qr, step, stream);
  }
  RETURN_IF_ERROR(device->Launched("Interpolative"));

  std::vector<double> found(static_cast<size_t>(k));
  std::vector<int32_t> order(static_cast<size_t>(k));
  RETURN_IF_ERROR(device->Download(Row(diagonal, k, DType::kF64), found.data(), DType::kF64));
  RETURN_IF_ERROR(device->Download(Row(chosen, k, DType::kI32), order.data(), DType::kI32));
  for (size_t s = 0; s < found.size(); ++s) {
    // The comparison fails for a NaN too.
    if (!(std::fabs(found[s]) > kSmallestPivot * std::fabs(found[0]))) {
      return absl::FailedPreconditionError("Interpolative: the matrix is numerically of rank " +
                                           std::to_string(s) + ", not " + std::to_string(k));
    }
  }
  // The step at which each pivot, ascending, was chosen.
  std::vector<int32_t> steps(order.size());
  std::iota(steps.begin(), steps.end(), 0);
  std::sort(steps.begin(), steps.end(), [&](int32_t a, int32_t b) {
    return order[static_cast<size_t>(a)] < order[static_cast<size_t>(b)];
  });
  std::vector<bool> is_pivot(static_cast<size_t>(m));
  for (size_t j = 0; j < steps.size(); ++j) {
    pivots[j] = order[static_cast<size_t>(steps[j])];
    is_pivot[static_cast<size_t>(pivots[j])] = true;
  }
  if (m == k) return absl::OkStatus();

  // [R1 R2]: the pivots in the order of their steps, then the others. These are the pivots times
  // R1⁻¹ R2.
  std::vector<int32_t> columns = order;
  for (int64_t j = 0; j < m; ++j) {
    if (!is_pivot[static_cast<size_t>(j)]) columns.push_back(static_cast<int32_t>(j));
  }
  ASSIGN_OR_RETURN(double* const data, scratch.Get<double>(k * m));
  ASSIGN_OR_RETURN(const std::shared_ptr<void> device_columns,
                   Device::Put(device, columns.data(), m * 4));
  ASSIGN_OR_RETURN(const std::shared_ptr<void> device_steps,
                   Device::Put(device, steps.data(), k * 4));
  const MatrixRef factor{data, k, m, m, DType::kF64}, rest = factor.Cols(k, m - k);
  PickCols(x, static_cast<const int32_t*>(device_columns.get()), factor, stream);
  RETURN_IF_ERROR(device->Launched("Interpolative"));
  // To the library R1 is R1ᵀ, a lower triangle, and R2 is R2ᵀ: y R1ᵀ = R2ᵀ.
  const double one = 1;
  RETURN_IF_ERROR(
      Check("cublasDtrsm",
            cublasDtrsm_64(device->blas(), CUBLAS_SIDE_RIGHT, CUBLAS_FILL_MODE_LOWER, CUBLAS_OP_N,
                           CUBLAS_DIAG_NON_UNIT, m - k, k, &one, data, m, rest.as<double>(), m)));
  PickRowsTransposed(rest, static_cast<const int32_t*>(device_steps.get()), t, stream);
  return device->Launched("Interpolative");
}

}  // namespace svdllm::cuda
