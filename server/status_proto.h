// Errors as callers of the API see them: google.rpc.Status with ErrorInfo, BadRequest and
// RetryInfo.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace svdllm {

inline constexpr char kErrorDomain[] = "svdllm";

struct FieldViolation {
  std::string field;  // "calibration.samples"
  std::string description;
};

// One error for all violations at once; code is INVALID_ARGUMENT unless said otherwise.
absl::Status InvalidFields(const std::vector<FieldViolation>& violations,
                           absl::StatusCode code = absl::StatusCode::kInvalidArgument);

// The serialized google.rpc.Status of an error, for grpc-status-details-bin.
std::string ErrorDetails(const absl::Status& status);

}  // namespace svdllm
