// A request that is kept in a file.
#pragma once

#include <google/protobuf/message.h>

#include <string>

#include "base/status.h"

namespace svdllm::cli {

// Adds what a YAML or JSON text says to the request, by protobuf's JSON mapping: fields are named
// as in the .proto (keep_ratios) or as in JSON (keepRatios); values of enums also as flags write
// them (svd_llm), and durations too (2h30m). What the request has no field for is refused. Errors
// name line and field: "line 3: calibration.sampels: there is no such field, did you mean
// samples?".
absl::Status ReadRecipe(const std::string& text, google::protobuf::Message* request);

// The request as such a file, in JSON, with the names of the .proto. Ends with a newline.
absl::StatusOr<std::string> ToRecipe(const google::protobuf::Message& request);

}  // namespace svdllm::cli
