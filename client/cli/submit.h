// Sends the request of compress or evaluate, and does what is asked with the job.
#pragma once

#include "client/cli/job_flags.h"

namespace svdllm::cli {

absl::StatusOr<int> Submit(CommandContext& context, const JobFlags& flags,
                           const v1::CompressModelRequest& request);
absl::StatusOr<int> Submit(CommandContext& context, const JobFlags& flags,
                           const v1::EvaluateRequest& request);

}  // namespace svdllm::cli
