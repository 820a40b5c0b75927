// What is asked of a submission before it becomes a job: defaults are filled in, the model, the
// texts and the output are looked at, and the job is planned. It reads files that others can write,
// so the server has it done by processes that may hang or die (planner_pool.h).
#pragma once

#include <functional>
#include <string>

#include "base/status.h"
#include "server/engine.h"
#include "storage/artifact_store.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {

// On OK the request is as it will run, and preview has its plan. Any thread may call either.
struct SubmissionChecker {
  std::function<absl::Status(const std::string& job_id, v1::CompressModelRequest& request,
                             v1::Job& preview)>
      compress;
  std::function<absl::Status(const std::string& job_id, v1::EvaluateRequest& request,
                             v1::Job& preview)>
      evaluate;
};

// Checks in the calling thread. Both references outlive it.
SubmissionChecker CheckHere(const Engine& engine, ArtifactStore& artifacts);

}  // namespace svdllm
