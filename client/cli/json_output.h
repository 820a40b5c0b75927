// Machine-readable output: protobuf's JSON mapping (lowerCamelCase, 64-bit integers as strings,
// every field without presence printed, so that a reader finds the same members every time).
#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "base/status.h"

namespace svdllm::cli {

enum class JsonLayout { kIndented, kOneLine };
// Ends with a newline.
std::string ToJson(const google::protobuf::Message& message,
                   JsonLayout layout = JsonLayout::kIndented);
// {"error": {"code": "NOT_FOUND", "reason", "message", "metadata": {}, "violations":
// [{"field", "description"}], "retryDelaySeconds" (where the server gave one)}}
std::string ErrorToJson(const absl::Status& status);

}  // namespace svdllm::cli
