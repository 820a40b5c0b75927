// Status helpers. Every fallible function returns absl::Status or absl::StatusOr; a library that
// throws is wrapped in the one source file that uses it.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define SVDLLM_CONCAT_INNER_(a, b) a##b
#define SVDLLM_CONCAT_(a, b) SVDLLM_CONCAT_INNER_(a, b)

// Returns the expression's status from the enclosing function unless it is OK.
#define RETURN_IF_ERROR(expr)                        \
  do {                                               \
    absl::Status svdllm_status_ = (expr);            \
    if (!svdllm_status_.ok()) return svdllm_status_; \
  } while (false)

// ASSIGN_OR_RETURN(auto x, F()): x = *F(), or returns F()'s error.
#define ASSIGN_OR_RETURN(lhs, expr) \
  SVDLLM_ASSIGN_OR_RETURN_IMPL_(SVDLLM_CONCAT_(svdllm_or_, __LINE__), lhs, expr)
#define SVDLLM_ASSIGN_OR_RETURN_IMPL_(var, lhs, expr) \
  auto var = (expr);                                  \
  if (!var.ok()) return std::move(var).status();      \
  lhs = std::move(var).value()

namespace svdllm {

// The stable reasons of the API (ErrorInfo.reason). proto/svdllm/v1/compression.proto explains
// them. An error that callers of the API should understand carries one as a payload of its status.
inline constexpr std::string_view kModelNotFound = "MODEL_NOT_FOUND";
inline constexpr std::string_view kModelCorrupt = "MODEL_CORRUPT";
inline constexpr std::string_view kUnsupportedArchitecture = "UNSUPPORTED_ARCHITECTURE";
inline constexpr std::string_view kUnsupportedTokenizer = "UNSUPPORTED_TOKENIZER";
inline constexpr std::string_view kCalibrationInvalid = "CALIBRATION_INVALID";
inline constexpr std::string_view kDatasetInvalid = "DATASET_INVALID";
inline constexpr std::string_view kNumericalFailure = "NUMERICAL_FAILURE";
inline constexpr std::string_view kDeviceOutOfMemory = "DEVICE_OUT_OF_MEMORY";
inline constexpr std::string_view kHostOutOfMemory = "HOST_OUT_OF_MEMORY";
inline constexpr std::string_view kScratchFull = "SCRATCH_FULL";
inline constexpr std::string_view kArtifactStoreUnavailable = "ARTIFACT_STORE_UNAVAILABLE";
inline constexpr std::string_view kOutputInvalid = "OUTPUT_INVALID";
inline constexpr std::string_view kOutputExists = "OUTPUT_EXISTS";
inline constexpr std::string_view kCheckpointMismatch = "CHECKPOINT_MISMATCH";
inline constexpr std::string_view kAttemptsExhausted = "ATTEMPTS_EXHAUSTED";
inline constexpr std::string_view kDeadlineExceeded = "JOB_TIMEOUT";
inline constexpr std::string_view kRegressed = "REGRESSED";
inline constexpr std::string_view kLeaseLost = "LEASE_LOST";
inline constexpr std::string_view kQueueFull = "QUEUE_FULL";
inline constexpr std::string_view kRequestIdReused = "REQUEST_ID_REUSED";
inline constexpr std::string_view kInvalidField = "INVALID_FIELD";
inline constexpr std::string_view kJobNotFound = "JOB_NOT_FOUND";

// Makes a status with a reason from the list above. Its text is made UTF-8 and at most 4 KiB long.
absl::Status MakeError(absl::StatusCode code, std::string_view reason, std::string_view message);
// Makes INVALID_ARGUMENT for a field of a request: "calibration.samples: must be at least 1".
absl::Status InvalidField(std::string_view message);
// Returns the reason that a status carries, or an empty text where none was set.
std::string ErrorReason(const absl::Status& status);
// Returns the status with the name of an offender, which callers of the API get beside the reason
// (ErrorInfo.metadata): WithOffender(status, "job", "jobs/abc"). OK stays OK.
absl::Status WithOffender(absl::Status status, std::string_view key, std::string_view name);
// Returns the offenders' names by their keys.
std::map<std::string, std::string> OffendersOf(const absl::Status& status);
// Returns "context: message", as MakeError's, with the code and the payloads kept. OK stays OK.
absl::Status Annotate(const absl::Status& status, std::string_view context);

}  // namespace svdllm
