// The CUDA backend, opened at run time: a machine without a device, a driver or CUDA's libraries
// pays nothing, and is told what is missing.
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

// The devices by their numbers, at least one. UNAVAILABLE, naming what is missing, where the module
// or a library, the driver or a device is not there. Makes no context on any device.
absl::StatusOr<std::vector<CudaDeviceInfo>> CudaDevices();

// A backend on a device, used by one thread at a time. UNAVAILABLE as above or where there is no
// such device; else the backend's own error, DEVICE_OUT_OF_MEMORY for one.
absl::StatusOr<std::unique_ptr<Backend>> NewCudaBackend(int device = 0,
                                                        const CudaOptions& options = {});

}  // namespace svdllm
