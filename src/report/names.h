// Names of models and files in reports, and what a job calibrated on.
#pragma once

#include <cstdint>
#include <string>

#include "job/result.h"
#include "job/spec.h"

namespace svdllm {

// The last part of a path or URI: a report says which model and which text, not where they lay.
std::string BaseName(std::string uri);

// "ORG/NAME" of a path in a hub's cache, models--ORG--NAME/snapshots/REVISION; else empty: a
// directory's name is no hub id.
std::string HubId(const std::string& uri);

// What a report calls a model: its hub id; of an artifact of several, with the directory of all of
// them: "small/keep-0.80"; else the path's last part.
std::string ModelName(const std::string& uri);

// Sequences that calibrated: those that were drawn, or as many as were asked for where the result
// does not say, as in results of earlier versions.
int64_t UsedSamples(const CompressSpec& spec, const CompressResult& job);

}  // namespace svdllm
