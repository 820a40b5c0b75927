// Measured figures, and what was said of them, as they stand in the reports, and back. The readers
// throw nlohmann's exceptions.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "job/result.h"
#include "job/spec.h"

namespace svdllm {

// As a file has it. A path that is no UTF-8 is no reason to publish nothing.
std::string ToText(const nlohmann::ordered_json& json);

// {"perplexities": […], "tasks": […], "throughputs": […]}
nlohmann::ordered_json FiguresJson(const Figures& figures);
// From an object with these members; the last two may be absent.
Figures FiguresFrom(const nlohmann::ordered_json& json);
// The member "window_start" of an object; absent where that is.
std::optional<WindowStart> WindowStartFrom(const nlohmann::ordered_json& json);

// What was asked to be measured.
nlohmann::ordered_json MeasureJson(const MeasureSpec& measure);

// [{"name": …, "metric": …, "baseline": …, "value": …, "change": …, "accepted": …}, …], with
// std_error and limit where they are known.
nlohmann::ordered_json ComparisonsJson(const std::vector<Comparison>& comparisons);
std::vector<Comparison> ComparisonsFrom(const nlohmann::ordered_json& json);
nlohmann::ordered_json VerdictJson(const Verdict& verdict, const AcceptanceThreshold& threshold);
Verdict VerdictFrom(const nlohmann::ordered_json& json);

}  // namespace svdllm
