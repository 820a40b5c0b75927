// The serving half: gRPC with health and reflection, HTTP with metrics and probes, streams, and the
// watch over leases. Includes no gRPC headers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "metrics/nvml.h"
#include "queue/job_store.h"
#include "server/engine.h"
#include "storage/artifact_store.h"

namespace svdllm {

struct ApiServerOptions {
  std::string listen = "127.0.0.1:0";
  std::string http_listen = "127.0.0.1:0";  // empty: none
  std::string artifact_root;
  int64_t queue_limit = 1000;
  int64_t lease_ms = 30000;
  int64_t max_request_bytes = 4 << 20;
  // Of the supervised workers; for metrics. Empty: there are none.
  std::function<std::vector<int64_t>()> worker_pids;
  std::function<int64_t()> worker_restarts;
  std::string nvml_library = kNvmlLibrary;  // what asks CUDA devices for their metrics
};

class ApiServer {
 public:
  // Serves when it returns. The references outlive the server. Errors name the address.
  static absl::StatusOr<std::unique_ptr<ApiServer>> Start(const ApiServerOptions& options,
                                                          JobStore& store, ArtifactStore& artifacts,
                                                          const Engine& engine);
  virtual ~ApiServer() = default;

  virtual int port() const = 0;
  virtual int http_port() const = 0;  // 0: none
  // Health and /readyz say so from now on; everything is still served.
  virtual void SetNotReady() = 0;
  // Ends streams with UNAVAILABLE, lets other RPCs finish for a few seconds, stops serving.
  virtual void Shutdown() = 0;
};

}  // namespace svdllm
