// What a job read, for its records.
#pragma once

#include <string>

#include "base/status.h"
#include "job/result.h"

namespace svdllm {

// Reads the file once more, to its end.
absl::StatusOr<DataFile> DescribeFile(const std::string& path);

}  // namespace svdllm
