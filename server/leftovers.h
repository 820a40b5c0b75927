// What attempts leave behind that ended without a word, because their process was killed.
#pragma once

#include <string>

#include "queue/job_store.h"
#include "storage/artifact_store.h"

namespace svdllm {

// Removes staged and work directories of attempts that no longer hold their job. work_root: where
// attempts have their work directories (run_job.h); empty: nowhere. Call it from one thread at a
// time.
void RemoveLeftovers(JobStore& store, ArtifactStore& artifacts, const std::string& work_root);

// Removes the journals of jobs that have ended or are gone. It costs little enough to be done every
// few seconds.
void RemoveEndedJournals(JobStore& store, const std::string& work_root);

}  // namespace svdllm
