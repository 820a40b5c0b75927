// The parts of report.html that put two models side by side, or show one alone.
#pragma once

#include <string>
#include <vector>

#include "job/spec.h"

namespace svdllm {

// A model before and after, or a baseline and a model. No pointer to results is null; before_name
// is, where there is only one model.
struct Comparison {
  const char *before_name, *after_name;
  const std::vector<PerplexityResult>*before_perplexities, *after_perplexities;  // never null
  const std::vector<TaskResult>*before_tasks, *after_tasks;
  const std::vector<ThroughputResult>*before_throughputs, *after_throughputs;
};

// The result of the same name; null where there is none.
template <typename Result>
const Result* Find(const std::vector<Result>& results, const std::string& name) {
  for (const Result& result : results) {
    if (result.name == name) return &result;
  }
  return nullptr;
}

// Empty where there are no results.
std::string PerplexitySection(const Comparison& comparison);
std::string TaskSection(const Comparison& comparison);
std::string SpeedSection(const Comparison& comparison);

}  // namespace svdllm
