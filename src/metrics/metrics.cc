#include "metrics/metrics.h"

#include <algorithm>
#include <cstdio>
#include <iterator>

namespace svdllm {

std::string CounterKey(std::string_view metric,
                       std::initializer_list<std::string_view> label_values) {
  std::string key(metric);
  for (const std::string_view value : label_values) key.append("|").append(value);
  return key;
}

void CountSeconds(std::string_view metric, std::initializer_list<std::string_view> label_values,
                  double seconds, std::map<std::string, double>& counters) {
  const std::string key = CounterKey(metric, label_values);
  seconds = std::max(seconds, 0.0);  // clocks are set back
  counters[key + "|sum"] += seconds;
  const double* const bound =
      std::lower_bound(std::begin(kSecondsBuckets), std::end(kSecondsBuckets), seconds);
  char text[32] = "+Inf";
  if (bound != std::end(kSecondsBuckets)) std::snprintf(text, sizeof(text), "%g", *bound);
  counters[key + "|le" + text] += 1;
}

}  // namespace svdllm
