#include "linalg/cuda/transfers.h"

#include <algorithm>
#include <cstring>

#include "linalg/counting/device_scratch.h"
#include "linalg/cuda/check.h"
#include "linalg/cuda/kernels.h"

namespace svdllm::cuda {
namespace {

using device::kStagingBytes;

constexpr int64_t kSmall = int64_t{64} << 10;         // at most: goes through a small buffer
constexpr int64_t kSmallBuffer = int64_t{512} << 10;  // of each small buffer

// One thread reaches a fifth of what the bus takes.
void CopyHost(void* to, const void* from, int64_t bytes) {
  constexpr int64_t kPiece = int64_t{1} << 20;
  const int64_t pieces = (bytes + kPiece - 1) / kPiece;
#pragma omp parallel for schedule(static) if (pieces > 1)
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t begin = i * kPiece;
    std::memcpy(static_cast<char*>(to) + begin, static_cast<const char*>(from) + begin,
                static_cast<size_t>(std::min(kPiece, bytes - begin)));
  }
}

}  // namespace

absl::Status Transfers::Make(Pinned& pinned, int64_t bytes) {
  RETURN_IF_ERROR(
      Check("cudaMallocHost", cudaMallocHost(&pinned.data, static_cast<size_t>(bytes))));
  return Check("cudaEventCreate", cudaEventCreateWithFlags(&pinned.moved, cudaEventDisableTiming));
}

absl::Status Transfers::Init(cudaStream_t stream) {
  stream_ = stream;
  for (Pinned& pinned : large_) RETURN_IF_ERROR(Make(pinned, kStagingBytes));
  for (Pinned& pinned : small_) RETURN_IF_ERROR(Make(pinned, kSmallBuffer));
  return Check("cudaMalloc", cudaMalloc(&staging_, kStagingBytes));
}

Transfers::~Transfers() {
  const auto drop = [](Pinned& pinned) {
    if (pinned.moved != nullptr) cudaEventDestroy(pinned.moved);
    if (pinned.data != nullptr) cudaFreeHost(pinned.data);
  };
  for (Pinned& pinned : large_) drop(pinned);
  for (Pinned& pinned : small_) drop(pinned);
  if (staging_ != nullptr) cudaFree(staging_);
}

absl::Status Transfers::UploadSmall(const void* host, size_t bytes, void* to) {
  if (used_small_ + static_cast<int64_t>(bytes) > kSmallBuffer) {
    RETURN_IF_ERROR(Check("Upload", cudaEventRecord(small_[now_small_].moved, stream_)));
    now_small_ = (now_small_ + 1) % std::size(small_);
    used_small_ = 0;
    RETURN_IF_ERROR(Check("Upload", cudaEventSynchronize(small_[now_small_].moved)));
  }
  char* const pinned = static_cast<char*>(small_[now_small_].data) + used_small_;
  used_small_ += (static_cast<int64_t>(bytes) + 63) / 64 * 64;
  std::memcpy(pinned, host, bytes);
  return Check("Upload", cudaMemcpyAsync(to, pinned, bytes, cudaMemcpyHostToDevice, stream_));
}

absl::Status Transfers::Upload(const void* host, DType host_dtype, MatrixRef to) {
  const auto size = static_cast<int64_t>(SizeOf(host_dtype));
  const int64_t chunk = kStagingBytes / size;
  const bool direct = host_dtype == to.dtype && to.contiguous();
  if (to.size() == 0) return absl::OkStatus();
  if (direct && to.size() * size <= kSmall) {
    return UploadSmall(host, static_cast<size_t>(to.size() * size), to.data);
  }
  for (int64_t begin = 0; begin < to.size(); begin += chunk) {
    const int64_t count = std::min(chunk, to.size() - begin), bytes = count * size;
    Pinned& pinned = NextLarge();
    RETURN_IF_ERROR(Check("Upload", cudaEventSynchronize(pinned.moved)));
    CopyHost(pinned.data, static_cast<const char*>(host) + begin * size, bytes);
    void* const target = direct ? static_cast<char*>(to.data) + begin * size : staging_;
    RETURN_IF_ERROR(Check("Upload", cudaMemcpyAsync(target, pinned.data, static_cast<size_t>(bytes),
                                                    cudaMemcpyHostToDevice, stream_)));
    RETURN_IF_ERROR(Check("Upload", cudaEventRecord(pinned.moved, stream_)));
    if (!direct) {
      Convert({staging_, 1, count, count, host_dtype}, 0, to, begin, count, stream_);
      RETURN_IF_ERROR(Check("Upload", cudaGetLastError()));
    }
  }
  return absl::OkStatus();
}

absl::Status Transfers::Download(MatrixRef from, void* host, DType host_dtype) {
  const auto size = static_cast<int64_t>(SizeOf(host_dtype));
  const int64_t chunk = kStagingBytes / size;
  const bool direct = host_dtype == from.dtype && from.contiguous();
  const int64_t chunks = (from.size() + chunk - 1) / chunk;
  if (chunks == 0) return Check("Download", cudaStreamSynchronize(stream_));
  // A chunk is on its way while the one before, already here, is copied out.
  Pinned* before = nullptr;
  for (int64_t c = 0; c <= chunks; ++c) {
    Pinned* now = nullptr;
    if (c < chunks) {
      const int64_t begin = c * chunk, count = std::min(chunk, from.size() - begin);
      const void* source = static_cast<const char*>(from.data) + begin * size;
      if (!direct) {
        Convert(from, begin, {staging_, 1, count, count, host_dtype}, 0, count, stream_);
        RETURN_IF_ERROR(Check("Download", cudaGetLastError()));
        source = staging_;
      }
      // An upload that still reads this buffer stands before this copy in the stream.
      now = &NextLarge();
      RETURN_IF_ERROR(
          Check("Download", cudaMemcpyAsync(now->data, source, static_cast<size_t>(count * size),
                                            cudaMemcpyDeviceToHost, stream_)));
      RETURN_IF_ERROR(Check("Download", cudaEventRecord(now->moved, stream_)));
    }
    if (before != nullptr) {
      const int64_t begin = (c - 1) * chunk, count = std::min(chunk, from.size() - begin);
      RETURN_IF_ERROR(Check("Download", cudaEventSynchronize(before->moved)));
      CopyHost(static_cast<char*>(host) + begin * size, before->data, count * size);
    }
    before = now;
  }
  return absl::OkStatus();
}

}  // namespace svdllm::cuda
