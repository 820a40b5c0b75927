// Watching a job to its end.
#pragma once

#include <string>

#include "client/cli/commands.h"

namespace svdllm::cli {

// Shows what happens to the job after after_sequence on err until it has ended, then prints it on
// out (text: a summary; JSON: the Job). Returns the exit status by how it ended, kExitInterrupted
// after Ctrl-C.
absl::StatusOr<int> FollowJob(CommandContext& context, const std::string& name,
                              int64_t after_sequence = 0);
// Prints each event after after_sequence on out, as one line of JSON, until the job has ended.
absl::StatusOr<int> StreamEvents(CommandContext& context, const std::string& name,
                                 int64_t after_sequence);
int ExitStatusOf(const v1::Job& job);

}  // namespace svdllm::cli
