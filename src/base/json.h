// Parsing JSON that others wrote. Whatever the text holds, the result is a value or a Status.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/status.h"

namespace svdllm {

// The deepest nesting that is read. No file of a checkpoint's metadata is deeper.
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

// Returns text for an error message: shortened, with '?' for everything that is not printable
// ASCII.
std::string Printable(std::string_view text);

}  // namespace svdllm
