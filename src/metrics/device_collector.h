// Metrics of the devices that workers compute on.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "metrics/nvml.h"

namespace svdllm {

struct WatchedDevice {
  std::string device;         // the label: "cuda:0"
  std::string model, driver;  // labels of svdllm_device_info
  std::string pci_bus_id;     // empty: nothing can be read of it (the CPU)
  int64_t memory_bytes = 0;
  int64_t memory_limit_bytes = 0;
};

// Memory and utilisation are there for devices that NVML knows, and left out, not shown as zero,
// where it cannot be asked. Memory in use is left out too where NVML's device is another size than
// memory_bytes by more than a tenth: a partition has its whole device's bus id. Collect may be
// called from any thread.
class DeviceCollector : public prometheus::Collectable {
 public:
  // NVML is opened only where a device has a PCI bus id; that it is missing is logged once.
  explicit DeviceCollector(std::vector<WatchedDevice> devices,
                           const std::string& nvml_library = kNvmlLibrary);
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::vector<WatchedDevice> devices_;
  std::unique_ptr<Nvml> nvml_;
};

}  // namespace svdllm
