// What templates show of two models side by side, or of one alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "job/result.h"
#include "job/spec.h"
#include "report/template.h"

namespace svdllm {

// A count or a number of bytes: before, after and change.
Data SizeData(std::string (*text)(int64_t), int64_t before, int64_t after);

// A model before and after, or a baseline and a model. Where there is one model only, before_name
// is null and before has no figures. The figures outlive it.
struct SideBySide {
  const char *before_name, *after_name;
  const Figures &before, &after;
  const std::vector<Comparison>& comparisons;
};

// For the partial "measured": before_name, after_name, perplexity, tasks, speed.
void SetMeasured(const SideBySide& pair, Data& page);

// For the partial "sources": what was read for the figures, how much of it, and how. sources.
void SetSources(const MeasureSpec& measure, const Figures& figures, Data& page);

}  // namespace svdllm
