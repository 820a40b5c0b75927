// Parsing JSON that others wrote. Whatever the text holds, the result is a value or a Status.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/status.h"

namespace svdllm {

// The deepest nesting that is read. No file of a checkpoint's metadata is deeper.
inline constexpr int kMaxJsonDepth = 64;

// Returns the value of a whole text. INVALID_ARGUMENT, saying where, for anything that is not JSON
// in UTF-8 or is nested deeper than kMaxJsonDepth. Of equal keys the last one counts.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text);

// Returns text for an error message: shortened, with '?' for everything that is not printable
// ASCII.
std::string Printable(std::string_view text);

}  // namespace svdllm
