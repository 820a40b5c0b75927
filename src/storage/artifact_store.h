// Where models are read from and artifacts are published to.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace svdllm {

// Fetches and publishes directories; a publication is atomic. Implementations are thread-safe.
class ArtifactStore {
 public:
  virtual ~ArtifactStore() = default;

  // Returns the uri in the one form that is stored and compared. It does not ask whether anything
  // is there. Errors have the uri in them: INVALID_ARGUMENT where it is no uri of this store;
  // PERMISSION_DENIED where it lies outside the allowed roots, also by ".." or by a symbolic link.
  // The reason is INVALID_FIELD for inputs and OUTPUT_INVALID for outputs.
  virtual absl::StatusOr<std::string> ResolveInput(const std::string& uri) const = 0;
  virtual absl::StatusOr<std::string> ResolveOutput(const std::string& uri) const = 0;
  // The output of a job whose request names none.
  virtual std::string DefaultOutput(const std::string& job_id) const = 0;

  // Returns a local path with the content of uri: a directory (checkpoint) or a file (text).
  // NOT_FOUND, with the uri and without a reason, where there is none: only the caller knows
  // whether it is a model or a text. scratch_dir may be used for what has to be copied.
  virtual absl::StatusOr<std::string> Fetch(const std::string& uri,
                                            const std::string& scratch_dir) const = 0;

  // Returns an empty local directory to write an artifact for uri into. token tells attempts apart
  // and has the form "owner.attempt"; directories that the same owner staged for uri before are
  // removed. It is checked that uri could be committed: ALREADY_EXISTS with reason OUTPUT_EXISTS
  // where something is there (an empty directory counts as nothing), PERMISSION_DENIED with
  // OUTPUT_INVALID where it cannot be written, INVALID_ARGUMENT with OUTPUT_INVALID inside a
  // published artifact.
  virtual absl::StatusOr<std::string> Stage(const std::string& uri, const std::string& token) = 0;
  // Makes the staged directory visible at uri, all of it or nothing: it syncs every file, then
  // renames (file) or writes the manifest object last (s3). Where uri already holds an artifact
  // with the same manifest, that one stays, the staged one is discarded and the result is OK, so
  // that a retried publication is harmless. Anything else there is OUTPUT_EXISTS and is left alone.
  // FAILED_PRECONDITION where there is no compression_manifest.json, which makes it an artifact.
  virtual absl::Status Commit(const std::string& staging_dir, const std::string& uri) = 0;
  // Removes a staged directory: the store is then as it was before it was staged. It never touches
  // a committed artifact.
  virtual void Discard(const std::string& staging_dir) = 0;
  // Removes what is published at uri, where the SHA-256 of its manifest is this one. NOT_FOUND
  // where nothing is there, or something else, which stays. Files that the manifest does not list
  // stay as well, with the directories that they are in.
  virtual absl::Status Remove(const std::string& uri, const std::string& manifest_sha256) = 0;
  // Removes what was staged with tokens for which is_current is false: attempts that ended without
  // a word leave it behind. is_current is asked after the directory was seen. Returns how many
  // these were.
  virtual int DiscardLost(
      const std::function<bool(const std::string& owner, int64_t attempt)>& is_current) = 0;
};

struct FileStoreOptions {
  // Directories that inputs may lie under; artifact_root is one as well. Empty: any readable path.
  std::vector<std::string> model_roots;
  // The directory that outputs lie under, and where unnamed outputs go. It is created where absent.
  std::string artifact_root;
};

// Opens a store of plain absolute paths and file:// URIs on a local file system. Its canonical form
// is a file:// URI without symbolic links. A relative output lies below artifact_root; a relative
// input is refused, because our working directory is not the caller's. Files that an input
// directory links to must lie under the allowed roots too. Roots are checked when a path is used,
// so a root that others can write to while we read is no boundary. INVALID_ARGUMENT where a root is
// missing. A staging directory stands under a dotted name in the nearest directory on the way to
// the artifact that is there already, so that the rename never crosses a file system and nothing
// but it is made before something is published.
absl::StatusOr<std::unique_ptr<ArtifactStore>> NewFileStore(const FileStoreOptions& options);

}  // namespace svdllm
