#include "job/data_file.h"

#include <filesystem>

#include "base/digest.h"
#include "base/files.h"

namespace svdllm {

absl::StatusOr<DataFile> DescribeFile(const std::string& path) {
  DataFile file;
  file.uri = path;
  ASSIGN_OR_RETURN(file.sha256, Sha256OfFile(path));
  std::error_code error;
  file.bytes = static_cast<int64_t>(std::filesystem::file_size(path, error));
  if (error) return ErrnoToStatus(error.value(), "size of", path);
  return file;
}

}  // namespace svdllm
