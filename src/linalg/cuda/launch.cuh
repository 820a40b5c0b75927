// How the kernels are launched and what they share.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "linalg/matrix.h"

namespace svdllm::cuda {

// Where g++ compiles the kernels, tests/emulation has its own of these two.
#ifdef __CUDACC__
template <typename... P, typename... A>
void Launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            A... args) {
  kernel<<<grid, block, shared_bytes, stream>>>(static_cast<P>(args)...);
}

// The block's dynamic shared memory.
template <typename T>
__device__ T* DynamicShared() {
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  return reinterpret_cast<T*>(shared_bytes);
}
#endif

// Element (i, j) of a row-major matrix on the device.
template <typename T>
struct Strided {
  T* data;
  int64_t stride;
  __device__ T* row(int64_t i) const { return data + i * stride; }
  __device__ T& operator()(int64_t i, int64_t j) const { return data[i * stride + j]; }
};

template <typename T>
Strided<T> At(const MatrixRef& x) {
  return {x.as<T>(), x.stride};
}

constexpr int kWarp = 32;

// op over the values of a block of whole warps, at most 1024 threads; every thread gets the result.
// The order is fixed, and so are the result's bits. Every thread of the block calls it.
template <typename T, typename Op>
__device__ T BlockReduce(T value, T neutral, Op op) {
  __shared__ T partial[kWarp];
  const unsigned thread = threadIdx.x + blockDim.x * threadIdx.y;
  const unsigned warps = blockDim.x * blockDim.y / kWarp;
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = op(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  __syncthreads();  // the last call's partial values have been read
  if (thread % kWarp == 0) partial[thread / kWarp] = value;
  __syncthreads();
  value = thread % kWarp < warps ? partial[thread % kWarp] : neutral;
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value = op(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

template <typename T>
__device__ T BlockSum(T value) {
  return BlockReduce(value, T{0}, [](T a, T b) { return a + b; });
}

}  // namespace svdllm::cuda
