// Parsing JSON that others wrote: whatever it holds, a value or a Status.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/status.h"

namespace svdllm {

// No file that a checkpoint's metadata is read from is deeper.
inline constexpr int kMaxJsonDepth = 64;

// The value of a whole text. INVALID_ARGUMENT, saying where, for anything that is not JSON in UTF-8
// or is nested deeper than kMaxJsonDepth. Of equal keys the last one counts.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text);

// text for an error message: shortened, and with what is not printable ASCII replaced by '?'.
std::string Printable(std::string_view text);

}  // namespace svdllm
