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
  std::string pci_bus_id;     // empty: nothing can be read about it (the CPU)
  int64_t memory_bytes = 0;
  int64_t memory_limit_bytes = 0;
};

// Memory and utilisation are there for devices that NVML knows. Where NVML cannot be asked they are
// left out and not shown as zero. Memory in use is also left out where NVML's device differs from
// memory_bytes by more than a tenth, because a partition has its whole device's bus id. Any thread
// may call Collect.
class DeviceCollector : public prometheus::Collectable {
 public:
  // NVML is opened only where a device has a PCI bus id. Where NVML is missing, that is logged
  // once.
  explicit DeviceCollector(std::vector<WatchedDevice> devices,
                           const std::string& nvml_library = kNvmlLibrary);
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::vector<WatchedDevice> devices_;
  std::unique_ptr<Nvml> nvml_;
};

}  // namespace svdllm
