// What is kept no longer: what jobs published, where their requests say for how long, and the jobs.
#pragma once

#include <cstdint>

#include "queue/job_store.h"
#include "storage/artifact_store.h"

namespace svdllm {

// Removes what is due: artifacts and reports by the artifact_ttl of their jobs, and jobs that ended
// more than keep_ms ago (0: none). It does a bounded amount of work and returns whether there is
// more to do at once. What cannot be removed is logged, and tried again by the next call.
bool Collect(JobStore& store, ArtifactStore& artifacts, int64_t keep_ms);

}  // namespace svdllm
