// An artifact store of which one call fails, before it has done anything.
#pragma once

#include <functional>
#include <string>

#include "storage/artifact_store.h"
#include "tests/support/fault.h"

namespace svdllm::testing {

// Both references outlive it.
class FaultyArtifactStore : public ArtifactStore {
 public:
  FaultyArtifactStore(ArtifactStore& store, Fault& fault) : store_(store), fault_(fault) {}

  absl::StatusOr<std::string> ResolveInput(const std::string& uri) const override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.ResolveInput(uri);
  }
  absl::StatusOr<std::string> ResolveOutput(const std::string& uri) const override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.ResolveOutput(uri);
  }
  std::string DefaultOutput(const std::string& job_id) const override {
    return store_.DefaultOutput(job_id);
  }
  absl::StatusOr<std::string> Fetch(const std::string& uri,
                                    const std::string& scratch_dir) const override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Fetch(uri, scratch_dir);
  }
  absl::StatusOr<std::string> Stage(const std::string& uri, const std::string& token) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Stage(uri, token);
  }
  absl::Status Commit(const std::string& staging_dir, const std::string& uri) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Commit(staging_dir, uri);
  }
  void Discard(const std::string& staging_dir) override { return store_.Discard(staging_dir); }
  absl::Status Remove(const std::string& uri, const std::string& manifest_sha256) override {
    RETURN_IF_ERROR(fault_.Next());
    return store_.Remove(uri, manifest_sha256);
  }
  int DiscardLost(
      const std::function<bool(const std::string& owner, int64_t attempt)>& is_current) override {
    return store_.DiscardLost(is_current);
  }

 private:
  ArtifactStore& store_;
  Fault& fault_;
};

}  // namespace svdllm::testing
