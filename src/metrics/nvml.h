// What an NVIDIA device is doing at the moment, as the driver's management library (NVML) says.
// NVML comes with the driver, so it is opened at run time. The few functions of it that are used
// are declared in nvml.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/status.h"

namespace svdllm {

inline constexpr char kNvmlLibrary[] = "libnvidia-ml.so.1";

struct DeviceUse {
  int64_t memory_used_bytes = 0;  // by all processes
  int64_t memory_bytes = 0;
  // The share of the last moments in which the device computed, 0 to 1. Absent where the driver
  // does not tell, as for partitions of a device.
  std::optional<double> utilization;
};

// Thread-safe.
class Nvml {
 public:
  // `library` is a file's name or path, as the dynamic loader takes it. UNAVAILABLE, saying what is
  // missing.
  static absl::StatusOr<std::unique_ptr<Nvml>> Open(const std::string& library = kNvmlLibrary);
  ~Nvml();
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  // Reads a device's use. pci_bus_id is like "0000:3b:00.0", since the driver's numbers need not be
  // CUDA's. UNAVAILABLE, naming the device.
  absl::StatusOr<DeviceUse> Read(const std::string& pci_bus_id) const;

 private:
  struct Functions;
  explicit Nvml(std::unique_ptr<Functions> functions);

  const std::unique_ptr<Functions> functions_;
};

}  // namespace svdllm
