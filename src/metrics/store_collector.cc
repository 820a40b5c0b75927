#include "metrics/store_collector.h"

#include <cstdlib>
#include <iterator>
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

using Counters = std::map<std::string, double>;
using LabelNames = std::vector<const char*>;
using LabelValues = std::vector<std::string>;

constexpr const char* kKinds[] = {"COMPRESS_MODEL", "EVALUATE"};
constexpr const char* kEndStates[] = {"SUCCEEDED", "FAILED", "CANCELLED"};

double Value(const Counters& counters, const std::string& key) {
  const auto it = counters.find(key);
  return it != counters.end() ? it->second : 0;
}

std::vector<ClientMetric::Label> Labels(const LabelNames& names, const LabelValues& values) {
  std::vector<ClientMetric::Label> labels;
  for (size_t i = 0; i < names.size(); ++i) labels.push_back(MakeLabel(names[i], values[i]));
  return labels;
}

// Calls visit(parts of the key behind the metric's name, value) for each of the metric's rows with
// this many parts. An earlier version may have written others.
template <typename Function>
void ForRows(const Counters& counters, std::string_view metric, size_t parts,
             const Function& visit) {
  const std::string prefix = std::string(metric) + "|";
  for (auto it = counters.lower_bound(prefix); it != counters.end(); ++it) {
    const std::string& key = it->first;
    if (key.compare(0, prefix.size(), prefix) != 0) break;
    LabelValues values;
    size_t begin = prefix.size();
    for (size_t bar; (bar = key.find('|', begin)) != std::string::npos; begin = bar + 1) {
      values.push_back(key.substr(begin, bar - begin));
    }
    values.push_back(key.substr(begin));
    if (values.size() == parts) visit(std::move(values), it->second);
  }
}

// A counter with a series for each row of the store, and one for each of `always`.
MetricFamily Counter(const char* name, const char* help, const LabelNames& names,
                     const std::vector<LabelValues>& always, const Counters& counters) {
  std::map<LabelValues, double> series;
  for (const LabelValues& values : always) series[values] = 0;
  ForRows(counters, name, names.size(),
          [&](LabelValues values, double value) { series[std::move(values)] = value; });
  MetricFamily family = MakeFamily(name, help, MetricType::Counter);
  for (const auto& [values, value] : series) AddCounter(family, value, Labels(names, values));
  return family;
}

MetricFamily Counter(const char* name, const char* help, const Counters& counters) {
  MetricFamily family = MakeFamily(name, help, MetricType::Counter);
  AddCounter(family, Value(counters, name));
  return family;
}

// A histogram of what CountSeconds has added, with a series for each of `always`.
MetricFamily Histogram(const char* name, const char* help, const LabelNames& names,
                       const std::vector<LabelValues>& always, const Counters& counters) {
  struct Observed {
    double sum = 0;
    std::map<double, double> counts;  // by the bound that each was stored under
  };
  std::map<LabelValues, Observed> series;
  for (const LabelValues& values : always) series[values];
  ForRows(counters, name, names.size() + 1, [&](LabelValues values, double value) {
    const std::string what = std::move(values.back());
    values.pop_back();
    if (what == "sum") {
      series[std::move(values)].sum = value;
    } else if (what.compare(0, 2, "le") == 0) {
      series[std::move(values)].counts[std::strtod(what.c_str() + 2, nullptr)] = value;
    }
  });
  MetricFamily family = MakeFamily(name, help, MetricType::Histogram);
  std::vector<double> bounds(std::begin(kSecondsBuckets), std::end(kSecondsBuckets));
  bounds.push_back(std::numeric_limits<double>::infinity());
  for (const auto& [values, observed] : series) {
    ClientMetric metric;
    metric.label = Labels(names, values);
    metric.histogram.sample_sum = observed.sum;
    uint64_t count = 0;
    auto next = observed.counts.begin();
    for (const double bound : bounds) {
      for (; next != observed.counts.end() && next->first <= bound; ++next) {
        count += static_cast<uint64_t>(next->second);
      }
      metric.histogram.bucket.push_back({count, bound});
    }
    metric.histogram.sample_count = count;
    family.metric.push_back(std::move(metric));
  }
  return family;
}

// What is bounded is there from the start: each kind with each of its ends.
std::vector<LabelValues> Ends(bool with_reasons) {
  std::vector<LabelValues> ends;
  for (const char* kind : kKinds) {
    for (const std::string_view state : kEndStates) {
      LabelValues end = {kind, std::string(state)};
      if (!with_reasons) {
        ends.push_back(end);
        continue;
      }
      end.emplace_back();
      if (state != "FAILED") {
        ends.push_back(end);
        continue;
      }
      for (const std::string_view reason : kReasons) {
        end.back() = reason;
        ends.push_back(end);
      }
    }
  }
  return ends;
}

MetricFamily Workers(const std::vector<WorkerSample>& workers) {
  MetricFamily family =
      MakeFamily(kWorkers, "1 for the state that the worker of a device is in.", MetricType::Gauge);
  for (const WorkerSample& worker : workers) {
    for (const char* state : kWorkerStates) {
      AddGauge(family, worker.state == state ? 1 : 0,
               {MakeLabel("device", worker.device), MakeLabel("state", state)});
    }
  }
  return family;
}

}  // namespace

std::vector<MetricFamily> StoreCollector::Collect() const {
  StoreSample sample;
  if (!read_(sample)) return {};
  const Counters& counters = sample.counters;
  MetricFamily jobs = MakeFamily(kJobs, "Jobs in the store by state.", MetricType::Gauge);
  for (const auto& [state, count] : sample.jobs) {
    AddGauge(jobs, static_cast<double>(count), {MakeLabel("state", state)});
  }
  MetricFamily depth = MakeFamily(kQueueDepth, "Jobs that wait for a worker.", MetricType::Gauge);
  AddGauge(depth, static_cast<double>(sample.queue_depth));
  MetricFamily age = MakeFamily(
      kQueueOldestAge, "How long the job has been queued that waits longest.", MetricType::Gauge);
  AddGauge(age, sample.oldest_age_seconds);
  std::vector<MetricFamily> families = {
      std::move(jobs),
      std::move(depth),
      std::move(age),
      Counter(kJobsFinished, "Jobs that have ended. The reason is that of a failed job's error.",
              {"kind", "state", "reason"}, Ends(true), counters),
      Histogram(kQueueWait, "Time from when a job was queued, or queued again, to its start.",
                {"kind"}, {{kKinds[0]}, {kKinds[1]}}, counters),
      Histogram(kJobDuration, "Time from a job's first start to its end.", {"kind", "state"},
                Ends(false), counters),
      Counter(kJobAttempts, "Ended attempts by outcome.", {"outcome"},
              {{"succeeded"}, {"failed"}, {"cancelled"}, {"released"}, {"lost"}}, counters),
      Counter(kLeasesLost, "Leases that ended without their worker.", counters),
      Counter(kFencedWrites, "Worker writes refused for a stale lease.", counters),
      Counter(kArtifactBytes, "Weight bytes of published artifacts.", counters),
      Histogram(kStageDuration, "Time a stage of a job took.", {"kind", "stage"}, {}, counters)};
  if (!sample.workers.empty()) families.push_back(Workers(sample.workers));
  return families;
}

}  // namespace svdllm
