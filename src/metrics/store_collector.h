// Turns the job store's counts into metric families, afresh at every scrape.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace svdllm {

struct WorkerSample {
  std::string device;
  std::string state;  // a row of kWorkerStates
};

// What the worker of a device does: it has a job; it waits for one; there is no process, because it
// has died and is started again.
inline constexpr char kWorkerRunning[] = "running";
inline constexpr char kWorkerIdle[] = "idle";
inline constexpr char kWorkerDown[] = "down";
inline constexpr const char* kWorkerStates[] = {kWorkerRunning, kWorkerIdle, kWorkerDown};

// What a scrape shows of the store.
struct StoreSample {
  std::map<std::string, int64_t> jobs;  // by state name
  int64_t queue_depth = 0;
  double oldest_age_seconds = 0;
  std::vector<WorkerSample> workers;       // none where no worker is supervised
  std::map<std::string, double> counters;  // keys as metrics.h makes them
};

class StoreCollector : public prometheus::Collectable {
 public:
  // `read` is called at each scrape, from any thread. Where it returns false the store cannot be
  // read, and its metrics are left out rather than shown as zero.
  explicit StoreCollector(std::function<bool(StoreSample&)> read) : read_(std::move(read)) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  std::function<bool(StoreSample&)> read_;
};

}  // namespace svdllm
