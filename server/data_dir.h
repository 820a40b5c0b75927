// The directory of the job store and of work in progress, which nobody but the server's user has
// any business in: requests name people's files, and work holds their weights.
#pragma once

#include <string>

#include "base/status.h"

namespace svdllm {

// Makes data_dir, with mode 0700, where it is absent, and the files of the job store in it, so that
// whatever SQLite makes beside them is the user's alone. Files of an earlier version that others
// may read become the user's alone; a directory that others may enter is left as it is, with a
// warning, since models or artifacts below it may be theirs to read.
absl::Status PrepareDataDir(const std::string& data_dir);

// Makes data_dir/work, for its user alone. The path.
absl::StatusOr<std::string> PrepareWorkDir(const std::string& data_dir);

}  // namespace svdllm
