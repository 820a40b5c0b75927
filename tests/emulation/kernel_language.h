// What nvcc knows and g++ does not. Included before the first line of every .cu, which g++ then
// compiles as C++.
#pragma once

// Before the words below mean something else.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstring>

#include "tests/emulation/emulation.h"

#undef __global__
#undef __device__
#undef __shared__
#undef __launch_bounds__
#define __global__
#define __device__
#define __shared__ static  // blocks run one after another
#define __launch_bounds__(...)

#define threadIdx ::svdllm::emulation::thread_index
#define blockIdx ::svdllm::emulation::block_index
#define blockDim ::svdllm::emulation::block_size
#define gridDim ::svdllm::emulation::grid_size

using std::isfinite;
using std::isnan;

inline void __syncthreads() { svdllm::emulation::SyncBlock(); }

template <typename T>
T __shfl_xor_sync(unsigned, T mine, int lane_mask) {
  T theirs;
  svdllm::emulation::ExchangeXor(&mine, &theirs, sizeof(T), lane_mask);
  return theirs;
}

inline float __double2float_rn(double x) { return static_cast<float>(x); }
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}
inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

// In the place of what linalg/cuda_launch.cuh has for nvcc.
namespace svdllm::cuda {

template <typename... P, typename... A>
void Launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            A... args) {
  emulation::Enqueue(stream, [=] {
    emulation::RunGrid(grid, block, shared_bytes, [=] { kernel(static_cast<P>(args)...); });
  });
}

template <typename T>
T* DynamicShared() {
  return static_cast<T*>(emulation::dynamic_shared);
}

}  // namespace svdllm::cuda
