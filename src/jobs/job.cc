#include "jobs/job.h"

#include "base/status.h"

namespace svdllm {

std::string_view JobStateName(JobState state) {
  switch (state) {
    case JobState::kQueued:
      return "QUEUED";
    case JobState::kRunning:
      return "RUNNING";
    case JobState::kCancelling:
      return "CANCELLING";
    case JobState::kSucceeded:
      return "SUCCEEDED";
    case JobState::kFailed:
      return "FAILED";
    case JobState::kCancelled:
      return "CANCELLED";
  }
  return "UNKNOWN";
}

JobError ToJobError(const absl::Status& status) {
  JobError error{status.code(), ErrorReason(status),
                 std::string(status.message().data(), status.message().size())};
  if (error.reason.empty()) error.reason = kInternal;
  return error;
}

}  // namespace svdllm
