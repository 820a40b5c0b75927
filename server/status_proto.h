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

// A client reads no more than 8 KiB of metadata, error message and details together. What is past
// these bounds is cut, so that an error always arrives as the error that it is.
inline constexpr size_t kMaxMessageBytes = 1024;
inline constexpr size_t kMaxViolations = 64;
inline constexpr size_t kMaxViolationBytes = 3072;  // of all fields and descriptions together

// Returns the message of an error as callers get it: valid UTF-8 of at most kMaxMessageBytes.
std::string ErrorMessage(const absl::Status& status);

// Makes one error for all violations at once. Where there are more than the bounds allow, it names
// the first ones, and the message says how many are left out.
absl::Status InvalidFields(const std::vector<FieldViolation>& violations,
                           absl::StatusCode code = absl::StatusCode::kInvalidArgument);

// Returns the serialized google.rpc.Status of an error, for grpc-status-details-bin.
std::string ErrorDetails(const absl::Status& status);

}  // namespace svdllm
