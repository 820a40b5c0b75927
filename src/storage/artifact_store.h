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
  // by "..", also by a symbolic link). Whether anything is there is not asked. Reasons:
  // INVALID_FIELD for inputs, OUTPUT_INVALID for outputs.
  virtual absl::StatusOr<std::string> ResolveInput(const std::string& uri) const = 0;
  virtual absl::StatusOr<std::string> ResolveOutput(const std::string& uri) const = 0;
  // The output of a job that names none.
  virtual std::string DefaultOutput(const std::string& job_id) const = 0;

  // A local path with the content of uri: a directory (checkpoint) or a file (text). NOT_FOUND with
  // the uri and no reason where there is none (only the caller knows whether it is a model or a
  // text). scratch_dir may be used for what has to be copied.
  virtual absl::StatusOr<std::string> Fetch(const std::string& uri,
                                            const std::string& scratch_dir) const = 0;

  // An empty local directory to write an artifact for uri into. token tells attempts apart: of the
  // form "owner.attempt", and directories that the same owner staged for uri before are removed.
  // Checks that uri could be committed: ALREADY_EXISTS with reason OUTPUT_EXISTS where something is
  // there (an empty directory counts as nothing), PERMISSION_DENIED with OUTPUT_INVALID where it
  // cannot be written, INVALID_ARGUMENT with OUTPUT_INVALID inside a published artifact.
  virtual absl::StatusOr<std::string> Stage(const std::string& uri, const std::string& token) = 0;
  // Makes the staged directory visible at uri, all of it or nothing: syncs every file, then renames
  // (file) or writes the manifest object last (s3). Where uri already holds an artifact with the
  // same manifest, that one stays, the staged one is discarded and the result is OK, so that a
  // retried publication is harmless; anything else there is OUTPUT_EXISTS and is left alone.
  // FAILED_PRECONDITION where there is no compression_manifest.json, which makes it an artifact.
  virtual absl::Status Commit(const std::string& staging_dir, const std::string& uri) = 0;
  // Removes a staged directory. Never touches a committed artifact.
  virtual void Discard(const std::string& staging_dir) = 0;
};

struct FileStoreOptions {
  // Directories under which inputs may lie; artifact_root is one as well. Empty: any readable path.
  std::vector<std::string> model_roots;
  // Directory under which outputs lie, and where unnamed outputs go. Created where absent.
  std::string artifact_root;
};

// Plain absolute paths and file:// URIs on a local file system; the canonical form is a file:// URI
// without symbolic links. A relative output lies below artifact_root, a relative input is refused:
// our working directory is not the caller's. Files that an input directory links to must lie under
// the allowed roots too. Roots are checked when a path is used, so a root that others can write to
// while we read is not a boundary. INVALID_ARGUMENT where a root is missing. The staging directory
// stands beside the artifact's own, under a dotted name, so that the rename never crosses a file
// system.
absl::StatusOr<std::unique_ptr<ArtifactStore>> NewFileStore(const FileStoreOptions& options);

}  // namespace svdllm
