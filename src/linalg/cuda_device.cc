#include "linalg/cuda_device.h"

#include <algorithm>
#include <cstring>

#include "linalg/cuda_kernels.h"

namespace svdllm::cuda {
namespace {

// Of each staging buffer: long enough for the bus's full speed, short enough that filling one hides
// behind moving the other.
constexpr int64_t kStagingBytes = int64_t{8} << 20;

absl::Status LibraryError(const char* operation, const std::string& what, bool out_of_memory) {
  const std::string message = std::string(operation) + ": " + what;
  if (!out_of_memory) return absl::InternalError(message);
  return MakeError(absl::StatusCode::kResourceExhausted, kDeviceOutOfMemory, message);
}

}  // namespace

absl::Status Check(const char* operation, cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  return LibraryError(operation,
                      std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error),
                      error == cudaErrorMemoryAllocation);
}

absl::Status Check(const char* operation, cublasStatus_t status) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  return LibraryError(operation, cublasGetStatusString(status),
                      status == CUBLAS_STATUS_ALLOC_FAILED);
}

absl::Status Check(const char* operation, cusolverStatus_t status) {
  if (status == CUSOLVER_STATUS_SUCCESS) return absl::OkStatus();
  return LibraryError(operation, "cuSOLVER status " + std::to_string(static_cast<int>(status)),
                      status == CUSOLVER_STATUS_ALLOC_FAILED);
}

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

absl::StatusOr<std::shared_ptr<Device>> Device::Open(int ordinal) {
  std::shared_ptr<Device> device(new Device(ordinal));
  RETURN_IF_ERROR(device->Init());
  return device;
}

absl::Status Device::Init() {
  ASSIGN_OR_RETURN(const int count, DeviceCount());
  if (ordinal_ < 0 || ordinal_ >= count) {
    return absl::UnavailableError("there is no such device, only " + std::to_string(count));
  }
  int driver = 0, pools = 0;
  RETURN_IF_ERROR(Check("cudaSetDevice", cudaSetDevice(ordinal_)));
  cudaDeviceProp properties;
  RETURN_IF_ERROR(Check("cudaGetDeviceProperties", cudaGetDeviceProperties(&properties, ordinal_)));
  RETURN_IF_ERROR(Check("cudaDriverGetVersion", cudaDriverGetVersion(&driver)));
  name_ = "cuda:" + std::to_string(ordinal_) + ": " + properties.name + ", driver " +
          std::to_string(driver / 1000) + "." + std::to_string(driver % 1000 / 10);
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
  RETURN_IF_ERROR(
      Check("cudaStreamCreate", cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)));

  RETURN_IF_ERROR(Check("cublasCreate", cublasCreate(&blas_)));
  RETURN_IF_ERROR(Check("cublasSetStream", cublasSetStream(blas_, stream_)));
  // Full F32: TF32 keeps 10 bits of the mantissa.
  RETURN_IF_ERROR(Check("cublasSetMathMode", cublasSetMathMode(blas_, CUBLAS_DEFAULT_MATH)));
  RETURN_IF_ERROR(Check("cusolverDnCreate", cusolverDnCreate(&solver_)));
  RETURN_IF_ERROR(Check("cusolverDnSetStream", cusolverDnSetStream(solver_, stream_)));
  RETURN_IF_ERROR(Check("cusolverDnCreateParams", cusolverDnCreateParams(&params_)));

  for (Pinned& pinned : pinned_) {
    RETURN_IF_ERROR(Check("cudaMallocHost", cudaMallocHost(&pinned.data, kStagingBytes)));
    RETURN_IF_ERROR(
        Check("cudaEventCreate", cudaEventCreateWithFlags(&pinned.moved, cudaEventDisableTiming)));
  }
  RETURN_IF_ERROR(Check("cudaMalloc", cudaMalloc(&staging_, kStagingBytes)));
  return absl::OkStatus();
}

Device::~Device() {
  cudaSetDevice(ordinal_);
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  for (Pinned& pinned : pinned_) {
    if (pinned.moved != nullptr) cudaEventDestroy(pinned.moved);
    if (pinned.data != nullptr) cudaFreeHost(pinned.data);
  }
  if (staging_ != nullptr) cudaFree(staging_);
  if (params_ != nullptr) cusolverDnDestroyParams(params_);
  if (solver_ != nullptr) cusolverDnDestroy(solver_);
  if (blas_ != nullptr) cublasDestroy(blas_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
  if (pool_ != nullptr) cudaMemPoolDestroy(pool_);
}

cudaStream_t Device::Use() {
  cudaSetDevice(ordinal_);
  return stream_;
}

absl::Status Device::Launched(const char* operation) {
  return Check(operation, cudaGetLastError());
}

absl::Status Device::Synchronize(const char* operation) {
  return Check(operation, cudaStreamSynchronize(Use()));
}

absl::Status Device::OutOfMemory(int64_t bytes) {
  size_t available = 0, total = 0;
  cudaMemGetInfo(&available, &total);
  return MakeError(absl::StatusCode::kResourceExhausted, kDeviceOutOfMemory,
                   "no device memory for " + std::to_string(bytes) +
                       " bytes: " + std::to_string(usage_.now) + " are in use, the device has " +
                       std::to_string(total) + ", of them " + std::to_string(available) + " free");
}

absl::StatusOr<std::shared_ptr<void>> Device::Allocate(const std::shared_ptr<Device>& device,
                                                       int64_t bytes) {
  if (bytes == 0) return std::shared_ptr<void>();
  const cudaStream_t stream = device->Use();
  void* data = nullptr;
  const auto allocate = [&] {
    return cudaMallocFromPoolAsync(&data, static_cast<size_t>(bytes), device->pool_, stream);
  };
  cudaError_t error = allocate();
  if (error == cudaErrorMemoryAllocation) {
    // What the pool keeps may lie in pieces of the wrong sizes: give them back, and try again.
    cudaGetLastError();
    RETURN_IF_ERROR(device->Synchronize("Allocate"));
    RETURN_IF_ERROR(Check("cudaMemPoolTrimTo", cudaMemPoolTrimTo(device->pool_, 0)));
    error = allocate();
  }
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    return device->OutOfMemory(bytes);
  }
  RETURN_IF_ERROR(Check("cudaMallocFromPoolAsync", error));
  Usage& usage = device->usage_;
  usage.now += bytes;
  usage.peak = std::max(usage.peak, usage.now);
  return std::shared_ptr<void>(data, [device, bytes](void* p) {
    device->usage_.now -= bytes;
    cudaFreeAsync(p, device->Use());
  });
}

absl::StatusOr<std::shared_ptr<void>> Device::Put(const std::shared_ptr<Device>& device,
                                                  const void* host, int64_t bytes) {
  ASSIGN_OR_RETURN(std::shared_ptr<void> memory, Allocate(device, bytes));
  const int64_t words = bytes / 4;
  RETURN_IF_ERROR(device->Upload(host, DType::kI32, {memory.get(), 1, words, words, DType::kI32}));
  return memory;
}

absl::Status Device::Upload(const void* host, DType host_dtype, MatrixRef to) {
  const cudaStream_t stream = Use();
  const auto size = static_cast<int64_t>(SizeOf(host_dtype));
  const int64_t chunk = kStagingBytes / size;
  const bool direct = host_dtype == to.dtype && to.contiguous();
  for (int64_t begin = 0; begin < to.size(); begin += chunk) {
    const int64_t count = std::min(chunk, to.size() - begin);
    const auto bytes = static_cast<size_t>(count * size);
    Pinned& pinned = NextPinned();
    RETURN_IF_ERROR(Check("Upload", cudaEventSynchronize(pinned.moved)));
    std::memcpy(pinned.data, static_cast<const char*>(host) + begin * size, bytes);
    void* target = direct ? static_cast<char*>(to.data) + begin * size : staging_;
    RETURN_IF_ERROR(Check(
        "Upload", cudaMemcpyAsync(target, pinned.data, bytes, cudaMemcpyHostToDevice, stream)));
    RETURN_IF_ERROR(Check("Upload", cudaEventRecord(pinned.moved, stream)));
    if (!direct) {
      Convert({staging_, 1, count, count, host_dtype}, 0, to, begin, count, stream);
      RETURN_IF_ERROR(Launched("Upload"));
    }
  }
  return absl::OkStatus();
}

absl::Status Device::Download(MatrixRef from, void* host, DType host_dtype) {
  const cudaStream_t stream = Use();
  const auto size = static_cast<int64_t>(SizeOf(host_dtype));
  const int64_t chunk = kStagingBytes / size;
  const bool direct = host_dtype == from.dtype && from.contiguous();
  const int64_t chunks = (from.size() + chunk - 1) / chunk;
  if (chunks == 0) return Synchronize("Download");
  // A chunk is on its way while the one before, already here, is copied out.
  Pinned* before = nullptr;
  for (int64_t c = 0; c <= chunks; ++c) {
    Pinned* now = nullptr;
    if (c < chunks) {
      const int64_t begin = c * chunk, count = std::min(chunk, from.size() - begin);
      const void* source = static_cast<const char*>(from.data) + begin * size;
      if (!direct) {
        Convert(from, begin, {staging_, 1, count, count, host_dtype}, 0, count, stream);
        RETURN_IF_ERROR(Launched("Download"));
        source = staging_;
      }
      // An upload that still reads this buffer stands before this copy in the stream.
      now = &NextPinned();
      RETURN_IF_ERROR(
          Check("Download", cudaMemcpyAsync(now->data, source, static_cast<size_t>(count * size),
                                            cudaMemcpyDeviceToHost, stream)));
      RETURN_IF_ERROR(Check("Download", cudaEventRecord(now->moved, stream)));
    }
    if (before != nullptr) {
      const int64_t begin = (c - 1) * chunk, count = std::min(chunk, from.size() - begin);
      RETURN_IF_ERROR(Check("Download", cudaEventSynchronize(before->moved)));
      std::memcpy(static_cast<char*>(host) + begin * size, before->data,
                  static_cast<size_t>(count * size));
    }
    before = now;
  }
  return absl::OkStatus();
}

}  // namespace svdllm::cuda
