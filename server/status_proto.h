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

// Makes one error for all violations at once.
absl::Status InvalidFields(const std::vector<FieldViolation>& violations,
                           absl::StatusCode code = absl::StatusCode::kInvalidArgument);

// Returns the serialized google.rpc.Status of an error, for grpc-status-details-bin.
std::string ErrorDetails(const absl::Status& status);

}  // namespace svdllm
