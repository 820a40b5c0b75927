// Sends the request of compress or evaluate, and does what is asked with the job.
#pragma once

#include "client/cli/job_flags.h"

namespace svdllm::cli {

absl::StatusOr<int> Submit(CommandContext& context, const JobFlags& flags,
                           const v1::CompressModelRequest& request);
absl::StatusOr<int> Submit(CommandContext& context, const JobFlags& flags,
                           const v1::EvaluateRequest& request);
// Sends the request of a job that has ended once more.
absl::StatusOr<int> Retry(CommandContext& context, const JobFlags& flags, const std::string& name);

}  // namespace svdllm::cli
