// Jobs that this program does not understand: a newer version has stored them, before somebody went
// back to this one. They are shown with the reason and left alone, for the newer version to run.
#pragma once

#include "base/status.h"
#include "queue/job_store.h"

namespace svdllm {

// FAILED_PRECONDITION with REQUEST_NOT_UNDERSTOOD, and what it is, where something of a job's kind,
// state or request has no meaning here, or its request cannot be read.
absl::Status CheckUnderstood(const Job& job);

// For a worker's claims: jobs that are understood. Every other one is logged once.
JobFilter UnderstoodJobs();

}  // namespace svdllm
