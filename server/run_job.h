// Runs a stored job: request bytes in, result bytes out. No gRPC.
#pragma once

#include <string>

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

// Makes the handler. engine and artifacts outlive it. Each attempt works in a directory of its own
// under the work root, which is gone when the handler returns. A compression that finds no room on
// the volumes is SCRATCH_FULL at once.
JobHandler MakeJobHandler(const Engine& engine, ArtifactStore& artifacts,
                          const JobVolumes& volumes);

}  // namespace svdllm
