// The directory of the job store and of work in progress, which nobody but the server's user has
// any business in: requests name people's files, and work holds their weights.
#pragma once

#include <string>

#include "base/status.h"

namespace svdllm {

// Makes data_dir, with mode 0700, where it is absent. Files of the job store of an earlier version
// that others may read become the user's alone; a directory that others may enter is left as it is,
// with a warning, since models or artifacts below it may be theirs to read.
absl::Status PrepareDataDir(const std::string& data_dir);

// Makes the job store's file where it is absent, for its user alone: SQLite gives what it makes
// beside it the same mode. Call it when it is known that the file may be absent.
absl::Status PrepareStoreFile(const std::string& data_dir);

// Makes data_dir/work, for its user alone. The path.
absl::StatusOr<std::string> PrepareWorkDir(const std::string& data_dir);

}  // namespace svdllm
