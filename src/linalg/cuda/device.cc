#include "linalg/cuda/device.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "linalg/counting/device_scratch.h"
#include "linalg/cuda/module_api.h"

namespace svdllm::cuda {
namespace {

// Of the free memory: left for solvers' handles, kernels' code and what the pool cannot put
// together.
constexpr int64_t kReservedBytes = int64_t{768} << 20;

// Engine from one event to the next that Pace waits for. Some are several launches.
constexpr int64_t kPace = 48;

std::string Capability(const cudaDeviceProp& properties) {
  return std::to_string(properties.major) + "." + std::to_string(properties.minor);
}

}  // namespace

absl::StatusOr<int> DeviceCount() {
  int driver = 0, count = 0;
  // Answers without a driver too, with 0; the error of the next call would not tell.
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) {
    return absl::UnavailableError("there is no NVIDIA driver here");
  }
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return absl::UnavailableError(cudaGetErrorString(error));
  if (count == 0) return absl::UnavailableError("there is no device here");
  return count;
}

absl::StatusOr<std::shared_ptr<Device>> Device::Open(int ordinal, int64_t memory_limit) {
  std::shared_ptr<Device> device(new Device(ordinal));
  device->usage_.limit = memory_limit;
  RETURN_IF_ERROR(device->Init());
  return device;
}

absl::Status Device::Init() {
  ASSIGN_OR_RETURN(const int count, DeviceCount());
  if (ordinal_ < 0 || ordinal_ >= count) {
    return absl::UnavailableError("there is no such device, only " + std::to_string(count));
  }
  int driver = 0;
  cudaDeviceProp properties;
  RETURN_IF_ERROR(Check("cudaGetDeviceProperties", cudaGetDeviceProperties(&properties, ordinal_)));
  RETURN_IF_ERROR(Check("cudaDriverGetVersion", cudaDriverGetVersion(&driver)));
  name_ = "cuda:" + std::to_string(ordinal_) + ": " + properties.name + ", driver " +
          std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10);
  if (10 * properties.major + properties.minor < kOldestCapability) {
    return absl::UnavailableError(name_ + " has compute capability " + Capability(properties) +
                                  ", at least 7.5 (Turing) is needed");
  }
  has_bf16_ = properties.major >= 8;
  RETURN_IF_ERROR(Check("cudaSetDevice", cudaSetDevice(ordinal_)));
  RETURN_IF_ERROR(InitPool());
  for (cudaStream_t* stream : {&stream_, &upload_stream_}) {
    RETURN_IF_ERROR(
        Check("cudaStreamCreate", cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking)));
  }
  RETURN_IF_ERROR(
      Check("cudaEventCreate", cudaEventCreateWithFlags(&uploaded_, cudaEventDisableTiming)));
  for (cudaEvent_t& passed : passed_) {
    // Who waits for hundreds of operations leaves its core to others.
    RETURN_IF_ERROR(
        Check("cudaEventCreate",
              cudaEventCreateWithFlags(&passed, cudaEventDisableTiming | cudaEventBlockingSync)));
  }
  RETURN_IF_ERROR(InitLibraries());
  for (const auto& [transfers, stream] :
       {std::pair{&transfers_, stream_}, std::pair{&uploads_, upload_stream_}}) {
    *transfers = std::make_unique<Transfers>();
    RETURN_IF_ERROR((*transfers)->Init(stream));
  }
  Count(device::kFixedBytes);
  return SetLimit();
}

absl::Status Device::SetLimit() {
  size_t available = 0, total = 0;
  RETURN_IF_ERROR(Check("cudaMemGetInfo", cudaMemGetInfo(&available, &total)));
  const int64_t most =
      usage_.now + std::max<int64_t>(static_cast<int64_t>(available) - kReservedBytes, 0);
  usage_.limit = usage_.limit > 0 ? std::min(usage_.limit, most) : most;
  return absl::OkStatus();
}

absl::Status Device::InitPool() {
  int pools = 0;
  RETURN_IF_ERROR(Check("cudaDeviceGetAttribute",
                        cudaDeviceGetAttribute(&pools, cudaDevAttrMemoryPoolsSupported, ordinal_)));
  if (pools == 0) return absl::UnavailableError(name_ + " has no memory pools");
  cudaMemPoolProps pool = {};
  pool.allocType = cudaMemAllocationTypePinned;
  pool.handleTypes = cudaMemHandleTypeNone;
  pool.location.type = cudaMemLocationTypeDevice;
  pool.location.id = ordinal_;
  RETURN_IF_ERROR(Check("cudaMemPoolCreate", cudaMemPoolCreate(&pool_, &pool)));
  // What is freed stays with the pool: a job allocates the same sizes layer by layer.
  uint64_t keep = UINT64_MAX;
  RETURN_IF_ERROR(Check("cudaMemPoolSetAttribute",
                        cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrReleaseThreshold, &keep)));
  // An upload must not wait for the compute stream to have done with memory that it might use.
  int wait = 0;
  return Check("cudaMemPoolSetAttribute",
               cudaMemPoolSetAttribute(pool_, cudaMemPoolReuseAllowInternalDependencies, &wait));
}

absl::Status Device::InitLibraries() {
  RETURN_IF_ERROR(Check("cublasCreate", cublasCreate(&blas_)));
  RETURN_IF_ERROR(Check("cublasSetStream", cublasSetStream(blas_, stream_)));
  // After the stream, which brings a workspace of the library's own.
  RETURN_IF_ERROR(Check("cudaMalloc", cudaMalloc(&blas_workspace_, device::kBlasWorkspaceBytes)));
  RETURN_IF_ERROR(Check("cublasSetWorkspace",
                        cublasSetWorkspace(blas_, blas_workspace_, device::kBlasWorkspaceBytes)));
  // Full F32: TF32 keeps 10 bits of the mantissa. Sums of 16-bit products are F32 to the end.
  RETURN_IF_ERROR(Check(
      "cublasSetMathMode",
      cublasSetMathMode(
          blas_, static_cast<cublasMath_t>(CUBLAS_DEFAULT_MATH |
                                           CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION))));
  RETURN_IF_ERROR(Check("cusolverDnCreate", cusolverDnCreate(&solver_)));
  RETURN_IF_ERROR(Check("cusolverDnSetStream", cusolverDnSetStream(solver_, stream_)));
  return Check("cusolverDnCreateParams", cusolverDnCreateParams(&params_));
}

Device::~Device() {
  cudaSetDevice(ordinal_);
  if (upload_stream_ != nullptr) cudaStreamSynchronize(upload_stream_);
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  uploads_.reset();
  transfers_.reset();
  if (params_ != nullptr) cusolverDnDestroyParams(params_);
  if (solver_ != nullptr) cusolverDnDestroy(solver_);
  if (blas_ != nullptr) cublasDestroy(blas_);
  if (blas_workspace_ != nullptr) cudaFree(blas_workspace_);
  if (uploaded_ != nullptr) cudaEventDestroy(uploaded_);
  for (const cudaEvent_t passed : passed_) {
    if (passed != nullptr) cudaEventDestroy(passed);
  }
  if (upload_stream_ != nullptr) cudaStreamDestroy(upload_stream_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
  if (pool_ != nullptr) cudaMemPoolDestroy(pool_);
}

cudaStream_t Device::Use() const {
  cudaSetDevice(ordinal_);
  return stream_;
}

void Device::Pace() {
  if (++given_ % kPace != 0) return;
  const cudaEvent_t oldest = passed_[given_ / kPace % std::size(passed_)];
  // What goes wrong here is the next operation's error too.
  cudaEventSynchronize(oldest);
  cudaEventRecord(oldest, stream_);
}

absl::Status Device::Launched(const char* operation) const {
  return Check(operation, cudaGetLastError());
}

absl::Status Device::Synchronize(const char* operation) const {
  return Check(operation, cudaStreamSynchronize(Use()));
}

absl::Status Device::Trim(const char* operation) const {
  cudaGetLastError();  // is not the next kernel's
  RETURN_IF_ERROR(Synchronize(operation));
  return Check("cudaMemPoolTrimTo", cudaMemPoolTrimTo(pool_, 0));
}

absl::Status Device::OutOfMemory(int64_t bytes) const {
  size_t available = 0, total = 0;
  cudaMemGetInfo(&available, &total);
  const std::string why = usage_.limit > 0 && usage_.now + bytes > usage_.limit
                              ? "the limit is " + std::to_string(usage_.limit)
                              : "the device has " + std::to_string(total) + ", of them " +
                                    std::to_string(available) + " free";
  return MakeError(absl::StatusCode::kResourceExhausted, kDeviceOutOfMemory,
                   "no device memory for " + std::to_string(bytes) +
                       " bytes: " + std::to_string(usage_.now) + " are in use, " + why);
}

void Device::Count(int64_t bytes) {
  usage_.now += bytes;
  usage_.peak = std::max(usage_.peak, usage_.now);
}

void Device::Free(void* memory, int64_t bytes, int64_t session) {
  Count(-bytes);
  Use();
  if (session != 0 && session == session_) {
    // What is being written by the uploads under way is dropped before they end.
    cudaEventRecord(uploaded_, upload_stream_);
    cudaStreamWaitEvent(stream_, uploaded_, 0);
  }
  cudaFreeAsync(memory, stream_);
}

absl::StatusOr<std::shared_ptr<void>> Device::Allocate(const std::shared_ptr<Device>& device,
                                                       int64_t bytes) {
  if (bytes == 0) return std::shared_ptr<void>();
  const MemoryUse& usage = device->usage_;
  if (usage.limit > 0 && usage.now + bytes > usage.limit) return device->OutOfMemory(bytes);
  device->Use();
  const int64_t session = device->session_;
  const cudaStream_t stream = session == 0 ? device->stream_ : device->upload_stream_;
  void* data = nullptr;
  // What the pool keeps may lie in pieces of the wrong sizes: it is given back for a second try.
  const absl::Status made = device->Call("cudaMallocFromPoolAsync", [&] {
    return cudaMallocFromPoolAsync(&data, static_cast<size_t>(bytes), device->pool_, stream);
  });
  if (absl::IsResourceExhausted(made)) {
    cudaGetLastError();
    return device->OutOfMemory(bytes);
  }
  RETURN_IF_ERROR(made);
  device->Count(bytes);
  return std::shared_ptr<void>(
      data, [device, bytes, session](void* memory) { device->Free(memory, bytes, session); });
}

absl::StatusOr<std::shared_ptr<void>> Device::AllocateZeros(const std::shared_ptr<Device>& device,
                                                            int64_t bytes) {
  ASSIGN_OR_RETURN(std::shared_ptr<void> memory, Allocate(device, bytes));
  if (bytes == 0) return memory;
  const cudaStream_t stream = device->session_ == 0 ? device->stream_ : device->upload_stream_;
  RETURN_IF_ERROR(
      Check("New", cudaMemsetAsync(memory.get(), 0, static_cast<size_t>(bytes), stream)));
  return memory;
}

absl::StatusOr<std::shared_ptr<void>> Device::Put(const std::shared_ptr<Device>& device,
                                                  const void* host, int64_t bytes) {
  ASSIGN_OR_RETURN(std::shared_ptr<void> memory, Allocate(device, bytes));
  const int64_t words = bytes / 4;
  RETURN_IF_ERROR(device->Upload(host, DType::kI32, {memory.get(), 1, words, words, DType::kI32}));
  return memory;
}

absl::Status Device::Upload(const void* host, DType host_dtype, MatrixRef to) {
  Use();
  return (session_ == 0 ? transfers_ : uploads_)->Upload(host, host_dtype, to);
}

absl::Status Device::Download(MatrixRef from, void* host, DType host_dtype) {
  Use();
  return transfers_->Download(from, host, host_dtype);
}

absl::Status Device::BeginUploads() {
  if (session_ != 0) return absl::InternalError("BeginUploads: they have begun");
  session_ = ++sessions_;
  return absl::OkStatus();
}

absl::Status Device::EndUploads() {
  if (session_ == 0) return absl::InternalError("EndUploads: they have not begun");
  session_ = 0;
  Use();
  RETURN_IF_ERROR(Check("EndUploads", cudaEventRecord(uploaded_, upload_stream_)));
  return Check("EndUploads", cudaStreamWaitEvent(stream_, uploaded_, 0));
}

}  // namespace svdllm::cuda
