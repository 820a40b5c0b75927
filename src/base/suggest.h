// "Did you mean": the nearest of a few names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace svdllm {

// The candidate that name is a beginning of or a few typing errors away from; empty where none is
// close.
std::string Closest(std::string_view name, const std::vector<std::string>& candidates);
// ", did you mean X?" with X = prefix + Closest(), or nothing.
std::string DidYouMean(std::string_view name, const std::vector<std::string>& candidates,
                       std::string_view prefix = "");

}  // namespace svdllm
