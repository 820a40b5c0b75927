#include "metrics/metrics.h"

namespace svdllm {

std::string CounterKey(std::string_view metric, std::string_view label_value) {
  std::string key(metric);
  key.append("|").append(label_value);
  return key;
}

void CountStage(std::string_view stage, double seconds, std::map<std::string, double>& counters) {
  const std::string key = CounterKey(kStageDuration, stage);
  counters[key + "|sum"] += seconds;
  counters[key + "|count"] += 1;
  for (size_t i = 0; i < kStageBuckets.size(); ++i) {
    if (seconds <= kStageBuckets[i]) counters[key + "|le" + std::to_string(i)] += 1;
  }
}

}  // namespace svdllm
