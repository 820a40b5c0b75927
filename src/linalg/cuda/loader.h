// The CUDA backend, opened at run time. A machine without a device, a driver or CUDA's libraries
// pays nothing and is told what is missing.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "linalg/backend.h"
#include "linalg/cuda/module_api.h"

namespace svdllm {

struct CudaDeviceInfo {
  std::string name;
  int64_t memory_bytes = 0;
  int major = 0, minor = 0;  // compute capability
  std::string capability;    // "9.0"
  std::string driver;        // the CUDA version that it is for, "13.0"
  std::string pci_bus_id;    // "0000:3b:00.0"
};

// Returns the devices by their numbers, at least one. UNAVAILABLE, naming what is missing, where
// the module, a library, the driver or a device is not there. No context is made on any device.
absl::StatusOr<std::vector<CudaDeviceInfo>> CudaDevices();

// Returns a backend on a device. One thread at a time may use it. UNAVAILABLE as above or where
// there is no such device; otherwise the backend's own error, for example DEVICE_OUT_OF_MEMORY.
absl::StatusOr<std::unique_ptr<Backend>> NewCudaBackend(int device = 0,
                                                        const CudaOptions& options = {});

}  // namespace svdllm
