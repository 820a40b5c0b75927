// The RPCs as plain functions of messages, without gRPC. Thread-safe.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "queue/job_store.h"
#include "server/engine.h"
#include "storage/artifact_store.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {

struct ApiOptions {
  int64_t max_queued = 1000;
  int64_t lease_ms = 30000;
  int64_t max_request_bytes = 4 << 20;
  std::string artifact_root;             // for GetServerInfo
  std::vector<std::string> model_roots;  // for GetServerInfo
};

class JobApi {
 public:
  // All references outlive the object.
  JobApi(JobStore& store, ArtifactStore& artifacts, const Engine& engine, ApiOptions options);

  absl::StatusOr<v1::Job> CompressModel(const v1::CompressModelRequest& request);
  absl::StatusOr<v1::Job> Evaluate(const v1::EvaluateRequest& request);
  absl::StatusOr<v1::Job> GetJob(const v1::GetJobRequest& request);
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request);
  absl::StatusOr<v1::Job> CancelJob(const v1::CancelJobRequest& request);
  absl::Status DeleteJob(const v1::DeleteJobRequest& request);
  v1::ServerInfo GetServerInfo() const;

 private:
  // Checks a resolved request against the world. Adds the plan to preview, and to the job what it
  // will publish.
  absl::Status Check(v1::CompressModelRequest& request, NewJob& job, v1::Job& preview);
  absl::Status Check(v1::EvaluateRequest& request, NewJob& job, v1::Job& preview);
  // Whether the job's outputs can be written and are no other job's.
  absl::Status CheckOutputs(const NewJob& job);
  template <typename Request>
  absl::StatusOr<v1::Job> Submit(JobKind kind, const Request& request);

  JobStore& store_;
  ArtifactStore& artifacts_;
  const Engine& engine_;
  const ApiOptions options_;
};

}  // namespace svdllm
