#include "metrics/store_collector.h"

#include <cstdlib>
#include <limits>
#include <string_view>
#include <utility>

#include "metrics/families.h"
#include "metrics/metrics.h"

namespace svdllm {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;

void AddCounter(MetricFamily& family, double value, std::vector<ClientMetric::Label> labels = {}) {
  ClientMetric metric;
  metric.label = std::move(labels);
  metric.counter.value = value;
  family.metric.push_back(std::move(metric));
}

double Value(const std::map<std::string, double>& counters, const std::string& key) {
  const auto it = counters.find(key);
  return it != counters.end() ? it->second : 0;
}

// Rows "svdllm_stage_duration_seconds|calibrate|sum", "…|count", "…|le3".
MetricFamily StageHistogram(const std::map<std::string, double>& counters) {
  MetricFamily family =
      MakeFamily(kStageDuration, "Time a stage of a job took.", MetricType::Histogram);
  const std::string prefix = CounterKey(kStageDuration, "");
  for (auto it = counters.lower_bound(prefix); it != counters.end(); ++it) {
    const std::string& key = it->first;
    if (key.compare(0, prefix.size(), prefix) != 0) break;
    const size_t bar = key.find('|', prefix.size());
    if (bar == std::string::npos || key.substr(bar) != "|count") continue;
    const std::string base = key.substr(0, bar);
    ClientMetric metric;
    metric.label.push_back(MakeLabel("stage", key.substr(prefix.size(), bar - prefix.size())));
    metric.histogram.sample_count = static_cast<uint64_t>(it->second);
    metric.histogram.sample_sum = Value(counters, base + "|sum");
    for (size_t i = 0; i < kStageBuckets.size(); ++i) {
      const double count = Value(counters, base + "|le" + std::to_string(i));
      metric.histogram.bucket.push_back({static_cast<uint64_t>(count), kStageBuckets[i]});
    }
    metric.histogram.bucket.push_back(
        {metric.histogram.sample_count, std::numeric_limits<double>::infinity()});
    family.metric.push_back(std::move(metric));
  }
  return family;
}

MetricFamily PlainCounter(const char* name, const char* help,
                          const std::map<std::string, double>& counters) {
  MetricFamily family = MakeFamily(name, help, MetricType::Counter);
  AddCounter(family, Value(counters, name));
  return family;
}

}  // namespace

std::vector<MetricFamily> StoreCollector::Collect() const {
  StoreSample sample;
  if (!read_(sample)) return {};
  MetricFamily jobs = MakeFamily(kJobs, "Jobs in the store by state.", MetricType::Gauge);
  for (const auto& [state, count] : sample.jobs) {
    AddGauge(jobs, static_cast<double>(count), {MakeLabel("state", state)});
  }
  MetricFamily depth = MakeFamily(kQueueDepth, "Jobs that wait for a worker.", MetricType::Gauge);
  AddGauge(depth, static_cast<double>(sample.queue_depth));
  MetricFamily age =
      MakeFamily(kQueueOldestAge, "Age of the oldest waiting job.", MetricType::Gauge);
  AddGauge(age, sample.oldest_age_seconds);
  MetricFamily attempts =
      MakeFamily(kJobAttempts, "Ended attempts by outcome.", MetricType::Counter);
  for (const char* outcome : {"succeeded", "failed", "cancelled", "released", "lost"}) {
    AddCounter(attempts, Value(sample.counters, CounterKey(kJobAttempts, outcome)),
               {MakeLabel("outcome", outcome)});
  }
  return {std::move(jobs),
          std::move(depth),
          std::move(age),
          std::move(attempts),
          PlainCounter(kLeasesLost, "Leases that ended without their worker.", sample.counters),
          PlainCounter(kFencedWrites, "Worker writes refused for a stale lease.", sample.counters),
          PlainCounter(kArtifactBytes, "Weight bytes of published artifacts.", sample.counters),
          StageHistogram(sample.counters)};
}

}  // namespace svdllm
