// The interface between the program and the module that holds the CUDA backend. It is a module
// because a program linked with CUDA's libraries does not start where they are missing, and carries
// a quarter of a gigabyte where they are not used.
#pragma once

#include <stdint.h>

namespace svdllm {

inline constexpr char kCudaModule[] = "svdllm_cuda.so";
inline constexpr char kCudaSymbol[] = "svdllm_cuda_api";

// 10 · major + minor of the oldest compute capability in use, Turing's. The kernels are built for
// it, and it is the first that has everything that they use.
inline constexpr int kOldestCapability = 75;

struct CudaDevice {
  const char* name;
  int64_t memory_bytes;
  int major, minor;        // compute capability
  int driver;              // CUDA version that the driver is for, 1000 · major + 10 · minor
  const char* pci_bus_id;  // "0000:3b:00.0"
};

struct CudaOptions {
  int64_t memory_limit;  // bytes that the backend may take; 0: all that the device has
  int exact;  // not 0: weights are held and multiplied as F32, whatever they are stored as
};

// Takes an error: an absl::StatusCode as a number, the reason (base/status.h; "" where there is
// none) and the text.
using CudaOnError = void (*)(void* context, int code, const char* reason, const char* message);

// Nothing throws. Results and errors are handed to a callback during the call.
struct CudaApi {
  int version;  // kCudaApiVersion
  // Calls on_device for every device, in the order of their numbers, or on_error once.
  void (*devices)(void (*on_device)(void*, const CudaDevice*), CudaOnError on_error, void* context);
  // Returns a Backend* (linalg/backend.h), which delete ends; or nullptr, after on_error, where
  // there is none.
  void* (*create)(int device, const CudaOptions* options, CudaOnError on_error, void* context);
};

// It rises with every change of this header, of backend.h, operands.h, dtype.h and matrix.h,
// because the backend is called through its virtual functions.
inline constexpr int kCudaApiVersion = 4;

}  // namespace svdllm
