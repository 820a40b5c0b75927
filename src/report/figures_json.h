// Measured figures as they stand in the reports, and back. The readers throw nlohmann's exceptions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>

#include "job/result.h"

namespace svdllm {

// {"perplexities": […], "tasks": […], "throughputs": […]}
nlohmann::ordered_json FiguresJson(const Figures& figures);
// From an object with these members; the last two may be absent.
Figures FiguresFrom(const nlohmann::ordered_json& json);
// The member "window_start" of an object; absent where that is.
std::optional<WindowStart> WindowStartFrom(const nlohmann::ordered_json& json);

}  // namespace svdllm
