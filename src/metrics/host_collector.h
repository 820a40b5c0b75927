// Metrics of the process that serves them, of the volumes that it writes to, and of its backup.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <map>
#include <string>
#include <vector>

namespace svdllm {

// What cannot be read is left out and not shown as zero. Any thread may call Collect.
class HostCollector : public prometheus::Collectable {
 public:
  // The label and a path of each volume: {"data_dir", "/data/state"}. Volumes without a path are
  // passed over. backup: the job store's backup.
  explicit HostCollector(std::map<std::string, std::string> volumes, std::string backup = "")
      : volumes_(std::move(volumes)), backup_(std::move(backup)) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const std::map<std::string, std::string> volumes_;
  const std::string backup_;
};

}  // namespace svdllm
