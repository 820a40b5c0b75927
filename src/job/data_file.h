// The files that a job reads, as its records name them.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace svdllm {

struct DataFile {
  std::string uri;     // a path or URI, as in the request
  std::string sha256;  // of the file's bytes as they lie there, compressed ones too
  int64_t bytes = 0;
};

// Reads the file at this local path to its end. The errors of DigestOfFile.
absl::StatusOr<DataFile> DataFileOf(const std::string& uri, const std::string& path);

}  // namespace svdllm
