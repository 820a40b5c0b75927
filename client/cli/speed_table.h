// How fast models were, for people.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "svdllm/v1/compression.pb.h"

namespace svdllm::cli {

using Throughputs = google::protobuf::RepeatedPtrField<v1::ThroughputResult>;
// What each model is called, and its figures; at least one, none null.
using MeasuredSpeeds = std::vector<std::pair<std::string, const Throughputs*>>;

// A row a batch size and model, behind an empty line. With several models the rates of all but the
// first are followed by how many times faster than the first they are, as SpeedRatio says it. Empty
// where the first has no figures.
std::string SpeedTable(const MeasuredSpeeds& measured);

}  // namespace svdllm::cli
