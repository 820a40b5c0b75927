// Data between host and device in the order of one stream, through pinned buffers. Any host memory
// may be given, and it is free for other use on return.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <iterator>

#include "base/status.h"
#include "linalg/matrix.h"

namespace svdllm::cuda {

// Used by one thread at a time.
class Transfers {
 public:
  Transfers() = default;
  ~Transfers();
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  // Takes device::kStagingBytes of the device's memory, and a little more than four times that of
  // the host's. The stream must have passed all transfers when this object is destroyed.
  absl::Status Init(cudaStream_t stream);

  // The conversion is done on the device. The call waits for nothing as long as there is room in
  // the buffers.
  absl::Status Upload(const void* host, DType host_dtype, MatrixRef to);
  // Waits for everything before it in the stream, and reports what failed there.
  absl::Status Download(MatrixRef from, void* host, DType host_dtype);

 private:
  struct Pinned {
    void* data = nullptr;
    cudaEvent_t moved = nullptr;  // after the last copy from or to it
  };

  absl::Status Make(Pinned& pinned, int64_t bytes);
  Pinned& NextLarge() { return large_[next_large_++ % std::size(large_)]; }
  // Small uploads queue up behind each other: hundreds of them wait in the stream before this call
  // has to.
  absl::Status UploadSmall(const void* host, size_t bytes, void* to);

  cudaStream_t stream_ = nullptr;
  // There are several, so that one is filled while others wait in the stream for their turn.
  Pinned large_[4];
  size_t next_large_ = 0;
  Pinned small_[8];
  size_t now_small_ = 0;
  int64_t used_small_ = 0;   // bytes of small_[now_small_] that are in use
  void* staging_ = nullptr;  // on the device, for conversions
};

}  // namespace svdllm::cuda
