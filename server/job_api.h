// The RPCs as plain functions of messages, without gRPC. Thread-safe. They may wait for the disk
// and for a submission's check, so no thread of gRPC's calls them.
#pragma once

#include <string>

#include "base/status.h"
#include "queue/job_store.h"
#include "server/check_submission.h"
#include "server/engine.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {

struct ApiOptions {
  int64_t max_queued = 1000;
  int64_t lease_ms = 30000;
  int64_t max_request_bytes = 4 << 20;
  std::string artifact_root;  // for GetServerInfo
};

class JobApi {
 public:
  // Both references outlive the object.
  JobApi(JobStore& store, const Engine& engine, SubmissionChecker checker, ApiOptions options);

  absl::StatusOr<v1::Job> CompressModel(const v1::CompressModelRequest& request);
  absl::StatusOr<v1::Job> Evaluate(const v1::EvaluateRequest& request);
  absl::StatusOr<v1::Job> GetJob(const v1::GetJobRequest& request);
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request);
  absl::StatusOr<v1::Job> CancelJob(const v1::CancelJobRequest& request);
  absl::Status DeleteJob(const v1::DeleteJobRequest& request);
  v1::ServerInfo GetServerInfo() const;

 private:
  // The checker's function for this kind of request.
  absl::Status Check(const std::string& id, v1::CompressModelRequest& request, v1::Job& preview);
  absl::Status Check(const std::string& id, v1::EvaluateRequest& request, v1::Job& preview);
  template <typename Request>
  absl::StatusOr<v1::Job> Submit(JobKind kind, const Request& request);

  JobStore& store_;
  const Engine& engine_;
  const SubmissionChecker checker_;
  const ApiOptions options_;
};

}  // namespace svdllm
