#include <algorithm>
#include <atomic>
#include <numeric>
#include <string>
#include <thread>

#include "linalg/counting/device_scratch.h"
#include "linalg/cuda/decompositions.h"
#include "linalg/cuda/kernels.h"

namespace svdllm::cuda {
namespace {

// Where the values begin in a lane's memory, behind the solver's info.
constexpr int64_t kHeader = 256;

int64_t RoundUp(int64_t bytes) { return (bytes + 255) / 256 * 256; }

cusolverEigMode_t Mode(const EigenProblem& problem) {
  return problem.vectors.data == nullptr ? CUSOLVER_EIG_MODE_NOVECTOR : CUSOLVER_EIG_MODE_VECTOR;
}

// The row-major lower triangle is the libraries' upper one.
constexpr cublasFillMode_t kLower = CUBLAS_FILL_MODE_UPPER;

}  // namespace

// A stream with a solver of its own. Memory, of the compute stream's: info, the values, the
// solver's workspace. Once it has begun, one thread uses it.
struct EigenSolver::Lane {
  std::shared_ptr<Device> device;
  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr;
  cusolverDnHandle_t solver = nullptr;
  cusolverDnParams_t params = nullptr;
  std::shared_ptr<void> memory;

  ~Lane() {
    device->Use();
    if (stream != nullptr) cudaStreamSynchronize(stream);
    if (params != nullptr) cusolverDnDestroyParams(params);
    if (solver != nullptr) cusolverDnDestroy(solver);
    if (begin != nullptr) cudaEventDestroy(begin);
    if (stream != nullptr) cudaStreamDestroy(stream);
  }

  absl::Status Init() {
    // Many short steps, each of which waits for the one before: they must not queue up behind the
    // compute stream's large products.
    int lowest = 0, highest = 0;
    RETURN_IF_ERROR(Check("cudaDeviceGetStreamPriorityRange",
                          cudaDeviceGetStreamPriorityRange(&lowest, &highest)));
    RETURN_IF_ERROR(Check("cudaStreamCreate",
                          cudaStreamCreateWithPriority(&stream, cudaStreamNonBlocking, highest)));
    RETURN_IF_ERROR(
        Check("cudaEventCreate", cudaEventCreateWithFlags(&begin, cudaEventDisableTiming)));
    RETURN_IF_ERROR(device->Call("cusolverDnCreate", [&] { return cusolverDnCreate(&solver); }));
    RETURN_IF_ERROR(Check("cusolverDnSetStream", cusolverDnSetStream(solver, stream)));
    return Check("cusolverDnCreateParams", cusolverDnCreateParams(&params));
  }

  // What the solver asks for.
  absl::Status Workspace(const EigenProblem& problem, size_t* device_bytes, size_t* host_bytes) {
    return Check(
        "cusolverDnXsyevd_bufferSize",
        cusolverDnXsyevd_bufferSize(solver, params, Mode(problem), kLower, problem.k.rows,
                                    CUDA_R_64F, problem.k.data, problem.k.stride, CUDA_R_64F,
                                    problem.values.data, CUDA_R_64F, device_bytes, host_bytes));
  }

  // What the compute stream has been given so far comes before what the lane is given next.
  absl::Status Follow() {
    RETURN_IF_ERROR(Check("SymmetricEigen", cudaEventRecord(begin, device->Use())));
    return Check("SymmetricEigen", cudaStreamWaitEvent(stream, begin, 0));
  }

  // Returns when nothing of it is under way.
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
    RETURN_IF_ERROR(Workspace(problem, &device_bytes, &host_bytes));
    host.resize(host_bytes);
    char* const base = static_cast<char*>(memory.get());
    auto* const info = reinterpret_cast<int*>(base);
    auto* const values = reinterpret_cast<double*>(base + kHeader);
    void* const work = base + kHeader + RoundUp(n * 8);
    // Not to be tried again: it may have begun to overwrite the matrix.
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

// Lanes at work, each with a thread of its own.
class EigenSolver::Batch final : public PendingEigen {
 public:
  Batch(EigenSolver& solver, std::span<const EigenProblem> given)
      : problems(given.begin(), given.end()), solver_(solver), results_(given.size()) {
    // The largest first: the last to end is then a small one.
    std::stable_sort(problems.begin(), problems.end(),
                     [](const auto& a, const auto& b) { return a.k.rows > b.k.rows; });
  }

  ~Batch() override {
    Join();
    // The lanes have ended, and the compute stream's next use of their memory is free.
    for (auto& lane : lanes) {
      lane->memory.reset();
      solver_.idle_.push_back(std::move(lane));
    }
  }

  absl::Status Begin() {
    for (const auto& lane : lanes) RETURN_IF_ERROR(lane->Follow());
    for (const auto& lane : lanes) {
      threads_.emplace_back([this, one = lane.get()] { Work(*one); });
    }
    return absl::OkStatus();
  }

  absl::Status Finish() override {
    Join();
    for (const absl::Status& status : results_) RETURN_IF_ERROR(status);
    return absl::OkStatus();
  }

  std::vector<EigenProblem> problems;
  std::vector<std::unique_ptr<Lane>> lanes;

 private:
  void Work(Lane& lane) {
    solver_.device_->Use();  // the device is the thread's own
    for (size_t i = next_++; i < problems.size(); i = next_++) {
      results_[i] = lane.Solve(problems[i]);
    }
  }

  void Join() {
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  EigenSolver& solver_;
  std::vector<absl::Status> results_;
  std::atomic<size_t> next_{0};
  std::vector<std::thread> threads_;
};

EigenSolver::EigenSolver(std::shared_ptr<Device> device) : device_(std::move(device)) {}

EigenSolver::~EigenSolver() = default;

absl::StatusOr<std::unique_ptr<EigenSolver::Lane>> EigenSolver::TakeLane() {
  if (!idle_.empty()) {
    auto lane = std::move(idle_.back());
    idle_.pop_back();
    return lane;
  }
  device_->Use();
  auto lane = std::make_unique<Lane>();
  lane->device = device_;
  RETURN_IF_ERROR(lane->Init());
  return lane;
}

absl::Status EigenSolver::Prepare(Batch& batch) {
  const auto count = std::min(batch.problems.size(), static_cast<size_t>(device::kEigenLanes));
  int64_t bytes = 0;
  while (batch.lanes.size() < count) {
    auto lane = TakeLane();
    absl::Status status = lane.status();
    if (status.ok() && bytes == 0) {
      for (const EigenProblem& problem : batch.problems) {
        const int64_t n = problem.k.rows;
        if (n == 0) continue;
        size_t device_bytes = 0, host_bytes = 0;
        RETURN_IF_ERROR((*lane)->Workspace(problem, &device_bytes, &host_bytes));
        bytes =
            std::max(bytes, kHeader + RoundUp(n * 8) + RoundUp(static_cast<int64_t>(device_bytes)));
      }
    }
    if (status.ok()) {
      auto memory = Device::Allocate(device_, bytes);
      status = memory.status();
      if (status.ok()) (*lane)->memory = *std::move(memory);
    }
    if (!status.ok()) {
      if (batch.lanes.empty() || !absl::IsResourceExhausted(status)) return status;
      cudaGetLastError();  // is not the next kernel's
      break;               // fewer at a time are slower, and fit
    }
    batch.lanes.push_back(*std::move(lane));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<PendingEigen>> EigenSolver::Start(
    std::span<const EigenProblem> problems) {
  auto batch = std::make_unique<Batch>(*this, problems);
  RETURN_IF_ERROR(Prepare(*batch));
  RETURN_IF_ERROR(batch->Begin());
  return batch;
}

}  // namespace svdllm::cuda
