#include "metrics/device_collector.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "base/logging.h"
#include "metrics/families.h"
#include "metrics/metrics.h"

namespace svdllm {

using prometheus::MetricFamily;
using prometheus::MetricType;

namespace {

bool SameSize(const DeviceUse& use, const WatchedDevice& device) {
  return std::abs(use.memory_bytes - device.memory_bytes) <= device.memory_bytes / 10;
}

}  // namespace

DeviceCollector::DeviceCollector(std::vector<WatchedDevice> devices,
                                 const std::string& nvml_library)
    : devices_(std::move(devices)) {
  if (std::all_of(devices_.begin(), devices_.end(),
                  [](const WatchedDevice& device) { return device.pci_bus_id.empty(); })) {
    return;
  }
  auto nvml = Nvml::Open(nvml_library);
  if (nvml.ok()) {
    nvml_ = std::move(*nvml);
  } else {
    Log(LogLevel::kWarning, "no metrics of the devices' memory and utilisation",
        {{"why", std::string(nvml.status().message())}});
  }
}

std::vector<MetricFamily> DeviceCollector::Collect() const {
  MetricFamily info = MakeFamily(
      kDeviceInfo, "Always 1; the labels tell what jobs are computed on.", MetricType::Gauge);
  MetricFamily used = MakeFamily(
      kDeviceMemoryUsed, "Memory in use on the device, by all processes.", MetricType::Gauge);
  MetricFamily limit =
      MakeFamily(kDeviceMemoryLimit, "Memory of the device that jobs may use.", MetricType::Gauge);
  MetricFamily utilization =
      MakeFamily(kDeviceUtilization, "Share of the last moments in which the device computed.",
                 MetricType::Gauge);
  for (const WatchedDevice& device : devices_) {
    AddGauge(info, 1,
             {MakeLabel("device", device.device), MakeLabel("driver", device.driver),
              MakeLabel("model", device.model)});
    if (nvml_ == nullptr || device.pci_bus_id.empty()) continue;
    const auto use = nvml_->Read(device.pci_bus_id);
    if (!use.ok()) continue;
    const std::vector<prometheus::ClientMetric::Label> labels = {
        MakeLabel("device", device.device)};
    if (SameSize(*use, device)) {
      AddGauge(used, static_cast<double>(use->memory_used_bytes), labels);
    }
    AddGauge(limit, static_cast<double>(device.memory_limit_bytes), labels);
    if (use->utilization.has_value()) AddGauge(utilization, *use->utilization, labels);
  }
  std::vector<MetricFamily> families;
  for (MetricFamily* family : {&info, &used, &limit, &utilization}) {
    if (!family->metric.empty()) families.push_back(std::move(*family));
  }
  return families;
}

}  // namespace svdllm
