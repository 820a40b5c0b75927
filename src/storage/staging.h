// Directories that an attempt fills before it publishes them.
#pragma once

#include <map>
#include <string>

#include "storage/artifact_store.h"

namespace svdllm {

// The directories of one attempt. Those that were not committed are discarded by the destructor.
class Staging {
 public:
  explicit Staging(ArtifactStore& store) : store_(store) {}
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging() {
    for (const auto& [dir, uri] : open_) store_.Discard(dir);
  }

  absl::StatusOr<std::string> Open(const std::string& uri, const std::string& job_id,
                                   int64_t attempt) {
    ASSIGN_OR_RETURN(std::string dir, store_.Stage(uri, job_id + "." + std::to_string(attempt)));
    open_[dir] = uri;
    return dir;
  }
  absl::Status CommitAll() {
    while (!open_.empty()) {
      const auto [dir, uri] = *open_.begin();
      RETURN_IF_ERROR(store_.Commit(dir, uri));
      open_.erase(open_.begin());
    }
    return absl::OkStatus();
  }

 private:
  ArtifactStore& store_;
  std::map<std::string, std::string> open_;
};

}  // namespace svdllm
