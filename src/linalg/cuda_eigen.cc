#include <algorithm>
#include <atomic>
#include <numeric>
#include <string>
#include <thread>

#include "linalg/cuda_decompositions.h"
#include "linalg/cuda_kernels.h"

namespace svdllm::cuda {
namespace {

constexpr size_t kMaxLanes = 4;
// Where the values begin in a lane's memory, behind the solver's info.
constexpr int64_t kHeader = 256;

int64_t RoundUp(int64_t bytes) { return (bytes + 255) / 256 * 256; }

cusolverEigMode_t Mode(const EigenProblem& problem) {
  return problem.vectors.data == nullptr ? CUSOLVER_EIG_MODE_NOVECTOR : CUSOLVER_EIG_MODE_VECTOR;
}

// The row-major lower triangle is the libraries' upper one.
constexpr cublasFillMode_t kLower = CUBLAS_FILL_MODE_UPPER;

absl::Status WorkspaceOf(cusolverDnHandle_t solver, cusolverDnParams_t params,
                         const EigenProblem& problem, size_t* device_bytes, size_t* host_bytes) {
  return Check(
      "cusolverDnXsyevd_bufferSize",
      cusolverDnXsyevd_bufferSize(solver, params, Mode(problem), kLower, problem.k.rows, CUDA_R_64F,
                                  problem.k.data, problem.k.stride, CUDA_R_64F, problem.values.data,
                                  CUDA_R_64F, device_bytes, host_bytes));
}

}  // namespace

// A stream with a solver of its own. Memory: info, the values, the solver's workspace.
struct EigenSolver::Lane {
  cudaStream_t stream = nullptr;
  cusolverDnHandle_t solver = nullptr;
  cusolverDnParams_t params = nullptr;
  std::shared_ptr<void> memory;

  ~Lane() {
    if (stream != nullptr) cudaStreamSynchronize(stream);
    if (params != nullptr) cusolverDnDestroyParams(params);
    if (solver != nullptr) cusolverDnDestroy(solver);
    if (stream != nullptr) cudaStreamDestroy(stream);
  }

  absl::Status Init() {
    RETURN_IF_ERROR(
        Check("cudaStreamCreate", cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)));
    RETURN_IF_ERROR(Check("cusolverDnCreate", cusolverDnCreate(&solver)));
    RETURN_IF_ERROR(Check("cusolverDnSetStream", cusolverDnSetStream(solver, stream)));
    return Check("cusolverDnCreateParams", cusolverDnCreateParams(&params));
  }

  absl::Status Solve(const EigenProblem& problem) {
    // Whatever was queued before an error still uses the workspaces.
    std::vector<char> host;
    const absl::Status status = SolveOn(problem, host);
    if (!status.ok()) cudaStreamSynchronize(stream);
    return status;
  }

 private:
  absl::Status SolveOn(const EigenProblem& problem, std::vector<char>& host) {
    const int64_t n = problem.k.rows;
    if (n == 0) return absl::OkStatus();
    size_t device_bytes = 0, host_bytes = 0;
    RETURN_IF_ERROR(WorkspaceOf(solver, params, problem, &device_bytes, &host_bytes));
    host.resize(host_bytes);
    char* const base = static_cast<char*>(memory.get());
    auto* const info = reinterpret_cast<int*>(base);
    auto* const values = reinterpret_cast<double*>(base + kHeader);
    void* const work = base + kHeader + RoundUp(n * 8);
    RETURN_IF_ERROR(
        Check("cusolverDnXsyevd",
              cusolverDnXsyevd(solver, params, Mode(problem), kLower, n, CUDA_R_64F, problem.k.data,
                               problem.k.stride, CUDA_R_64F, values, CUDA_R_64F, work, device_bytes,
                               host.data(), host_bytes, info)));
    OrderEigen(problem.k, values, problem.values, problem.vectors, stream);
    RETURN_IF_ERROR(Check("SymmetricEigen", cudaGetLastError()));
    int found = 0;
    RETURN_IF_ERROR(Check("SymmetricEigen", cudaMemcpyAsync(&found, info, sizeof(found),
                                                            cudaMemcpyDeviceToHost, stream)));
    RETURN_IF_ERROR(Check("SymmetricEigen", cudaStreamSynchronize(stream)));
    if (found == 0) return absl::OkStatus();
    return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                     "cusolverDnXsyevd failed with info " + std::to_string(found));
  }
};

EigenSolver::EigenSolver(std::shared_ptr<Device> device) : device_(std::move(device)) {}

EigenSolver::~EigenSolver() {
  device_->Use();
  lanes_.clear();
}

absl::Status EigenSolver::Prepare(std::span<const EigenProblem> problems, size_t count) {
  device_->Use();
  while (lanes_.size() < count) {
    auto lane = std::make_unique<Lane>();
    const absl::Status made = lane->Init();
    if (!made.ok()) {
      if (lanes_.empty()) return made;
      cudaGetLastError();  // is not the next kernel's
      break;
    }
    lanes_.push_back(std::move(lane));
  }
  int64_t bytes = 0;
  for (const EigenProblem& problem : problems) {
    if (problem.k.rows == 0) continue;
    size_t device_bytes = 0, host_bytes = 0;
    RETURN_IF_ERROR(
        WorkspaceOf(lanes_[0]->solver, lanes_[0]->params, problem, &device_bytes, &host_bytes));
    bytes = std::max(
        bytes, kHeader + RoundUp(problem.k.rows * 8) + RoundUp(static_cast<int64_t>(device_bytes)));
  }
  for (size_t i = 0; i < lanes_.size() && i < count; ++i) {
    auto memory = Device::Allocate(device_, bytes);
    // Fewer at a time are slower, and fit.
    if (!memory.ok() && i > 0 && absl::IsResourceExhausted(memory.status())) break;
    RETURN_IF_ERROR(memory.status());
    lanes_[i]->memory = *std::move(memory);
  }
  return absl::OkStatus();
}

absl::Status EigenSolver::Solve(std::span<const EigenProblem> problems) {
  if (problems.empty()) return absl::OkStatus();
  const absl::Status prepared = Prepare(problems, std::min(problems.size(), kMaxLanes));
  if (!prepared.ok()) {
    for (const auto& lane : lanes_) lane->memory.reset();
    return prepared;
  }
  std::vector<size_t> order(problems.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return problems[a].k.rows > problems[b].k.rows; });
  // The lanes begin where the compute stream stands: with the problems and the memory there.
  RETURN_IF_ERROR(device_->Synchronize("SymmetricEigen"));
  std::vector<absl::Status> results(problems.size());
  std::atomic<size_t> next{0};
  const auto work = [&](Lane& lane) {
    device_->Use();  // the device is the thread's own
    for (size_t i = next++; i < order.size(); i = next++) {
      results[order[i]] = lane.Solve(problems[order[i]]);
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < lanes_.size() && lanes_[i]->memory != nullptr; ++i) {
    threads.emplace_back([&work, lane = lanes_[i].get()] { work(*lane); });
  }
  work(*lanes_[0]);
  for (std::thread& thread : threads) thread.join();
  for (const auto& lane : lanes_) lane->memory.reset();
  for (const absl::Status& status : results) RETURN_IF_ERROR(status);
  return absl::OkStatus();
}

}  // namespace svdllm::cuda
