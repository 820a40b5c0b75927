// Where models are read and artifacts are published.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace svdllm {

// Fetches a directory, publishes a directory atomically. Implementations are thread-safe.
class ArtifactStore {
 public:
  virtual ~ArtifactStore() = default;

  // The uri in the one form that is stored and compared, or an error with the uri in it:
  // INVALID_ARGUMENT (not a uri of this store), PERMISSION_DENIED (outside the allowed roots, also
  // by "..", also by a symbolic link).
  virtual absl::StatusOr<std::string> ResolveInput(const std::string& uri) const = 0;
  virtual absl::StatusOr<std::string> ResolveOutput(const std::string& uri) const = 0;
  // The output of a job that names none.
  virtual std::string DefaultOutput(const std::string& job_id) const = 0;

  // A local path with the content of uri: a directory (checkpoint) or a file (text). NOT_FOUND with
  // the uri where there is none. scratch_dir may be used for what has to be copied.
  virtual absl::StatusOr<std::string> Fetch(const std::string& uri,
                                            const std::string& scratch_dir) const = 0;

  // An empty local directory to write an artifact for uri into; token tells attempts apart. Checks
  // that uri could be committed: ALREADY_EXISTS with reason OUTPUT_EXISTS where something is there,
  // PERMISSION_DENIED with OUTPUT_INVALID where it cannot be written.
  virtual absl::StatusOr<std::string> Stage(const std::string& uri, const std::string& token) = 0;
  // Makes the staged directory visible at uri, all of it or nothing: syncs every file, then renames
  // (file) or writes the manifest object last (s3). Where uri already holds an artifact with the
  // same manifest, that one stays and the result is OK, so that a retried publication is harmless.
  virtual absl::Status Commit(const std::string& staging_dir, const std::string& uri) = 0;
  // Removes a staged directory. Never touches a committed artifact.
  virtual void Discard(const std::string& staging_dir) = 0;
};

struct FileStoreOptions {
  // Directories under which inputs may lie. Empty: any readable path.
  std::vector<std::string> model_roots;
  // Directory under which outputs lie, and where unnamed outputs go. Created where absent.
  std::string artifact_root;
};

// Plain paths and file:// URIs on a local file system. The staging directory stands beside the
// artifact's own, under a dotted name, so that the rename never crosses a file system.
absl::StatusOr<std::unique_ptr<ArtifactStore>> NewFileStore(const FileStoreOptions& options);

}  // namespace svdllm
