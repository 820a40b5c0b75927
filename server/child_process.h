// Processes that this program starts of itself: workers and planners.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace svdllm {

// Starts this program once more, also where its file has been replaced meanwhile. The child has
// these arguments, the descriptors `inherited` under their own numbers, standard error, and of the
// environment what it can need: settings of this program, of its libraries and of the system, and
// nothing that may be a secret.
absl::StatusOr<pid_t> SpawnSelf(const std::vector<std::string>& arguments,
                                std::span<const int> inherited = {});

// For a child's first lines: it ends with the process that started it, whatever ends that. ABORTED
// where that is gone already.
absl::Status TieToParent(int64_t parent_pid);

// How a process ended, by its wait status: "killed by signal 9 (Killed)", "exited with status 1".
std::string EndOf(int wait_status);

}  // namespace svdllm
