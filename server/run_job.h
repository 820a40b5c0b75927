// Runs a stored job: request bytes in, result bytes out. No gRPC.
#pragma once

#include <string>

#include "queue/worker.h"
#include "server/engine.h"
#include "storage/artifact_store.h"

namespace svdllm {

// Makes the handler. engine and artifacts outlive it. Each attempt works in a directory of its own
// under work_root, which is gone when the handler returns.
JobHandler MakeJobHandler(const Engine& engine, ArtifactStore& artifacts,
                          const std::string& work_root);

}  // namespace svdllm
