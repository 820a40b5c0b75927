// The RPCs as plain functions of messages, without gRPC. Thread-safe. They may wait for the disk
// and for a submission's check, so no thread of gRPC's calls them.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "queue/job_store.h"
#include "server/check_submission.h"
#include "server/engine.h"
#include "server/identity.h"
#include "server/watch_hub.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {

inline constexpr int kMostCallsPerConnection = 4096;

struct ApiOptions {
  int64_t max_queued = 1000;
  int64_t lease_ms = 30000;
  int64_t max_request_bytes = 4 << 20;
  std::string artifact_root;             // for GetServerInfo
  std::vector<std::string> model_roots;  // for GetServerInfo
  size_t max_watchers = kMostWatchers;   // for GetServerInfo
};

class JobApi {
 public:
  // Both references outlive the object.
  JobApi(JobStore& store, const Engine& engine, SubmissionChecker checker, ApiOptions options);

  // PERMISSION_DENIED with FORBIDDEN where the caller may not do this. Every job that is accepted,
  // cancelled or deleted is logged with its caller, and so is what is refused: a submission, or
  // what is forbidden.
  absl::StatusOr<v1::Job> CompressModel(const v1::CompressModelRequest& request,
                                        const Caller& caller);
  absl::StatusOr<v1::Job> Evaluate(const v1::EvaluateRequest& request, const Caller& caller);
  absl::StatusOr<v1::Job> GetJob(const v1::GetJobRequest& request);
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request);
  absl::StatusOr<v1::Job> CancelJob(const v1::CancelJobRequest& request, const Caller& caller);
  absl::Status DeleteJob(const v1::DeleteJobRequest& request, const Caller& caller);
  v1::ServerInfo GetServerInfo() const;

 private:
  // The checker's function for this kind of request.
  absl::Status Check(const std::string& id, v1::CompressModelRequest& request,
                     CheckedSubmission& checked);
  absl::Status Check(const std::string& id, v1::EvaluateRequest& request,
                     CheckedSubmission& checked);
  // Adds times to a compression's plan: by the processor's rate, and by what jobs like it took.
  absl::Status AddTimes(CheckedSubmission& checked);
  // created: whether it made a job, rather than to find one that was there.
  template <typename Request>
  absl::StatusOr<v1::Job> Submit(JobKind kind, const Request& request, const Caller& caller,
                                 bool& created);
  // Submit, and a line of the log about it.
  template <typename Request>
  absl::StatusOr<v1::Job> LoggedSubmit(JobKind kind, const Request& request, const Caller& caller);
  // Whether the caller may end or forget this job; what: "cancel".
  absl::Status CheckMayChange(const std::string& id, const Caller& caller, const std::string& what);

  JobStore& store_;
  const Engine& engine_;
  const SubmissionChecker checker_;
  const ApiOptions options_;
};

}  // namespace svdllm
