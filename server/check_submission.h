// What is asked of a submission before it becomes a job: defaults are filled in, the model, the
// texts and the output are looked at, and the job is planned. It reads files that others can write,
// so the server has it done by processes that may hang or die (planner_pool.h).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "server/disk_room.h"
#include "server/engine.h"
#include "storage/artifact_store.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {

// What a check found out.
struct CheckedSubmission {
  v1::Job preview;                     // the plan, and nothing else
  std::vector<std::string> outputs;    // what the job will publish
  std::vector<std::string> jobs_like;  // JobsLike of a compression, on each of the devices
  double work = 0;                     // of a compression, in floating-point operations
};

// On OK the request is as it will run. Any thread may call either.
struct SubmissionChecker {
  std::function<absl::Status(const std::string& job_id, v1::CompressModelRequest& request,
                             CheckedSubmission& checked)>
      compress;
  std::function<absl::Status(const std::string& job_id, v1::EvaluateRequest& request,
                             CheckedSubmission& checked)>
      evaluate;
};

// Checks in the calling thread. Both references outlive it. Compressions are refused where the
// volumes are too small for them, and warned where these are too full.
SubmissionChecker CheckHere(const Engine& engine, ArtifactStore& artifacts,
                            const JobVolumes& volumes = {});

}  // namespace svdllm
