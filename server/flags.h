// The server's settings. They are flags, and each can also be set from the environment.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/logging.h"
#include "base/status.h"
#include "queue/job_store.h"
#include "server/engine.h"
#include "server/tls.h"

namespace svdllm {

// kPlanner: checks submissions for the server that started it.
enum class Role { kAll, kApi, kWorker, kPlanner };

// kRequire: no start without all of it.
enum class ConfineMode { kAuto, kOff, kRequire };

// flags.cc explains the flags; --help reads it there.
struct ServerOptions {
  std::string listen;
  std::string http_listen;
  TlsFiles tls;
  std::string tokens;
  std::string data_dir;
  Role role = Role::kAll;
  DeviceSettings devices;
  std::vector<std::string> model_roots;
  std::string artifact_root;
  bool check_store = false;
  bool restore_backup = false;
  int64_t backup_ms = 0;
  int64_t keep_jobs_ms = 0;  // 0: for good
  int64_t queue_limit = 0;
  OwnerLimits owner_limits;
  int64_t lease_ms = 0;
  int64_t drain_ms = 0;
  int64_t grace_ms = 0;
  int64_t max_request_bytes = 0;
  LogLevel log_level = LogLevel::kInfo;
  std::string worker_id;
  int64_t plan_ms = 0;
  int64_t stall_ms = 0;
  int64_t stop_ms = 0;
  ConfineMode confine = ConfineMode::kAuto;
  // Of the processes that a server starts; else 0 and -1.
  int64_t parent_pid = 0;
  int heartbeat_fd = -1;
  int planner_fd = -1;
};

// Reads the environment's settings first and the command line's then, so that the command line
// wins. Prints and exits for --help and --version. INVALID_ARGUMENT, naming the flag and what is
// wrong with it.
absl::StatusOr<ServerOptions> ParseServerOptions(int argc, char** argv);

}  // namespace svdllm
