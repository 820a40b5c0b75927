// The parts of report.html that put two models side by side, or show one alone.
#pragma once

#include <string>

#include "job/result.h"

namespace svdllm {

// A model before and after, or a baseline and a model. Where there is one model only, before_name
// is null and before has no figures. The figures outlive the comparison.
struct Comparison {
  const char *before_name, *after_name;
  const Figures &before, &after;
};

// Empty where there are no results.
std::string PerplexitySection(const Comparison& comparison);
std::string TaskSection(const Comparison& comparison);
std::string SpeedSection(const Comparison& comparison);

}  // namespace svdllm
