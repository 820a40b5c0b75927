// Measured figures as they stand in the reports, and back. The readers throw nlohmann's exceptions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "job/spec.h"

namespace svdllm {

nlohmann::ordered_json PerplexitiesJson(const std::vector<PerplexityResult>& perplexities);
std::vector<PerplexityResult> PerplexitiesFrom(const nlohmann::ordered_json& list);

nlohmann::ordered_json TasksJson(const std::vector<TaskResult>& tasks);
std::vector<TaskResult> TasksFrom(const nlohmann::ordered_json& list);

nlohmann::ordered_json ThroughputsJson(const std::vector<ThroughputResult>& throughputs);
std::vector<ThroughputResult> ThroughputsFrom(const nlohmann::ordered_json& list);

}  // namespace svdllm
