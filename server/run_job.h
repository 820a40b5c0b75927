// Runs a stored job: request bytes in, result bytes out. No gRPC.
#pragma once

#include <string>
#include <string_view>

#include "queue/worker.h"
#include "server/disk_room.h"
#include "server/engine.h"
#include "storage/artifact_store.h"

namespace svdllm {

// Which jobs take a time that says something about each other's: of one method, on devices of one
// kind (Timing::like).
std::string JobsLike(const CompressSpec& spec, const DeviceInfo& device);

// What a job took, or would have taken with the processor to itself where it got much less of it
// than its threads could use: what it computed, with what threads wait for each other. Short jobs
// compute little of the time anyhow.
double SecondsAlone(double seconds, double processor_seconds, int threads);

// Where under work_root a job keeps what it has finished.
std::string JournalDir(const std::string& work_root, const std::string& job_id);
inline constexpr std::string_view kJournalEnding = ".journal";

// Removes it, where it is.
void RemoveJournal(const std::string& work_root, const std::string& job_id);

// Makes the handler. engine and artifacts outlive it. Each attempt works in a directory of its own
// under the work root, which is gone when the handler returns. What the job has finished is kept
// beside it, in JournalDir, until the job has ended. A journal of a job that is done, or whose disk
// is full, is removed at once: storing the outcome may need the room. RemoveJournal is for all
// others that have ended. A compression that finds no room on the volumes is SCRATCH_FULL at once.
JobHandler MakeJobHandler(const Engine& engine, ArtifactStore& artifacts,
                          const JobVolumes& volumes);

}  // namespace svdllm
