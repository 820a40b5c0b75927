// SHA-256, in lower-case hexadecimal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace svdllm {

std::string Sha256(std::string_view bytes);

struct FileDigest {
  std::string sha256;
  int64_t bytes = 0;
};
// Of a regular file that others may change meanwhile: of the bytes that were read, in one go and
// without a map, which would end the process where the file gets shorter. The errors of
// MappedFile::Open.
absl::StatusOr<FileDigest> DigestOfFile(const std::string& path);

}  // namespace svdllm
