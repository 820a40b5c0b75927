// Parsing JSON that others wrote: whatever it holds, a value or a Status.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/status.h"

namespace svdllm {

// No file that a checkpoint's metadata is read from is deeper.
inline constexpr int kMaxJsonDepth = 64;

// Why a text is no JSON.
struct JsonFault {
  size_t position = 0;  // bytes in front of what the parser could not take
  std::string what;     // "invalid literal; last read: 'N'", without a place
};

// The value of a whole text. INVALID_ARGUMENT, saying where, for anything that is not JSON in UTF-8
// or is nested deeper than kMaxJsonDepth; and *fault, where the caller says by itself which place
// of which file that is. Of equal keys the last one counts.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, JsonFault* fault = nullptr);

// text for an error message: shortened, and with what is not printable ASCII replaced by '?'.
std::string Printable(std::string_view text);

}  // namespace svdllm
