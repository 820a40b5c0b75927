#include "job/data_file.h"

#include "base/digest.h"

namespace svdllm {

absl::StatusOr<DataFile> DataFileOf(const std::string& uri, const std::string& path) {
  ASSIGN_OR_RETURN(const FileDigest digest, DigestOfFile(path));
  return DataFile{uri, digest.sha256, digest.bytes};
}

}  // namespace svdllm
