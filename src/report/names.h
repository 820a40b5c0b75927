// Names of models and files in reports, and what a job calibrated on.
#pragma once

#include <cstdint>
#include <string>

#include "job/result.h"
#include "job/spec.h"

namespace svdllm {

// The last part of a path or URI: a report says which model and which text, not where they lay.
std::string BaseName(std::string uri);

// Sequences that calibrated: those that were drawn, or as many as were asked for where the result
// does not say, as in results of earlier versions.
int64_t UsedSamples(const CompressSpec& spec, const CompressResult& job);

}  // namespace svdllm
