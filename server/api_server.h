// The serving half of the program: gRPC with health and reflection, HTTP with metrics and probes,
// streams, and the watch over leases. This header includes no gRPC headers.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "metrics/nvml.h"
#include "queue/job_store.h"
#include "server/check_submission.h"
#include "server/engine.h"
#include "server/supervisor.h"
#include "server/tls.h"
#include "server/watch_hub.h"
#include "storage/artifact_store.h"

namespace svdllm {

struct ApiServerOptions {
  std::string listen = "127.0.0.1:0";       // or unix:PATH
  std::string http_listen = "127.0.0.1:0";  // empty: none
  TlsFiles tls;                             // of both ports, but not of a Unix socket
  std::string tokens;                       // who may do what (Identities); empty: all everything
  std::string artifact_root;
  std::string data_dir;   // for metrics of the room that is left; empty: not measured
  std::string work_root;  // where attempts have their work directories; empty: not on this machine
  std::vector<std::string> model_roots;
  int64_t queue_limit = 1000;
  int64_t lease_ms = 30000;
  int64_t max_request_bytes = 4 << 20;
  size_t max_watchers = kMostWatchers;
  // The supervised workers, for metrics. Empty: there are none.
  std::function<std::vector<WorkerProcess>()> workers;
  // Checks submissions. Empty: they are checked in this process (CheckHere).
  std::optional<SubmissionChecker> checker;
  std::string nvml_library = kNvmlLibrary;  // the library that is asked for CUDA devices' metrics
};

class ApiServer {
 public:
  // The server is serving when Start returns. The references outlive it. Errors name the address.
  static absl::StatusOr<std::unique_ptr<ApiServer>> Start(const ApiServerOptions& options,
                                                          JobStore& store, ArtifactStore& artifacts,
                                                          const Engine& engine);
  virtual ~ApiServer() = default;

  virtual int port() const = 0;       // 0: a Unix socket
  virtual int http_port() const = 0;  // 0: none
  // From now on health and /readyz say that the server is not ready. Everything is still served.
  virtual void SetNotReady() = 0;
  // Ends streams with UNAVAILABLE, lets other RPCs finish for a few seconds, and stops serving.
  virtual void Shutdown() = 0;
};

}  // namespace svdllm
