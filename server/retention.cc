#include "server/retention.h"

#include <string>
#include <utility>
#include <vector>

#include "base/logging.h"
#include "server/job_proto.h"

namespace svdllm {
namespace {

// A look at the store, and all that a call does: artifacts are large, and rows are not.
constexpr int kArtifactsPerLook = 16, kLooks = 4, kJobsPerCall = 256;

// The URIs of what a job published, with the digests of the manifests.
std::vector<std::pair<std::string, std::string>> Published(const Job& job) {
  const v1::Job message = ToProto(job);
  std::vector<std::pair<std::string, std::string>> published;
  for (const auto& artifact : message.compress_model_result().artifacts()) {
    if (!artifact.uri().empty()) published.emplace_back(artifact.uri(), artifact.manifest_sha256());
  }
  const v1::EvaluateResult& report = message.evaluate_result();
  if (!report.report_uri().empty()) {
    published.emplace_back(report.report_uri(), report.manifest_sha256());
  }
  return published;
}

// Whether nothing of it is there any more.
bool RemovePublished(JobStore& store, ArtifactStore& artifacts, const Job& job) {
  for (const auto& [uri, digest] : Published(job)) {
    const absl::Status status = artifacts.Remove(uri, digest);
    if (!status.ok() && !absl::IsNotFound(status)) {
      Log(LogLevel::kWarning, "an artifact whose time is over was not removed",
          {{"job", job.id}, {"uri", uri}, {"error", std::string(status.message())}});
      return false;
    }
    // Removed by hand, or replaced by something that is not the job's.
    Log(LogLevel::kInfo, status.ok() ? "artifact expired" : "artifact expired, was not there",
        {{"job", job.id}, {"uri", uri}});
  }
  const absl::Status stored = store.SetExpired(job.id);
  // Deleted meanwhile: nobody asks for it again.
  return stored.ok() || absl::IsNotFound(stored);
}

}  // namespace

bool Collect(JobStore& store, ArtifactStore& artifacts, int64_t keep_ms) {
  int kept = 0;
  bool more = true;
  for (int look = 0; look < kLooks && more; ++look) {
    const auto due = store.Expiring(kArtifactsPerLook, kept);
    if (!due.ok()) break;  // the store's trouble is told elsewhere
    for (const Job& job : *due) {
      if (!RemovePublished(store, artifacts, job)) ++kept;
    }
    more = static_cast<int>(due->size()) == kArtifactsPerLook;
  }
  if (keep_ms > 0) {
    const auto deleted = store.DeleteEnded(keep_ms, kJobsPerCall);
    if (deleted.ok() && *deleted > 0) {
      Log(LogLevel::kInfo, "jobs were deleted, their time was over", {{"count", *deleted}});
    }
    more = more || (deleted.ok() && *deleted == kJobsPerCall);
  }
  return more;
}

}  // namespace svdllm
