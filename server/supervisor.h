// Keeps the worker process of one device running: starts it, gives its job back the moment it dies,
// and starts it again. A worker that gives no sign of life for as long as a lease lasts is killed;
// one that was stopped while it kept others from the job store, within a second. With several
// devices there are several supervisors, which know nothing of each other.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "queue/job_store.h"
#include "server/heartbeat.h"

namespace svdllm {

// The leases of supervised workers begin with this. After a restart none of these workers can be
// alive.
inline constexpr char kChildWorkerPrefix[] = "child-";

// A supervised worker at a moment.
struct WorkerProcess {
  std::string device;
  std::string id;   // as in its leases
  int64_t pid = 0;  // 0: there is no process now
  int64_t restarts = 0;
};

class Supervisor {
 public:
  // `arguments` are this program's own, without argv[0]. The worker gets them, --role=worker and
  // --devices=device. store outlives the supervisor.
  Supervisor(std::vector<std::string> arguments, std::string device, int64_t lease_ms,
             JobStore& store);
  // Kills the worker.
  ~Supervisor();

  // Asks the worker to stop, and starts no other.
  void RequestStop();
  // Waits until the worker has stopped. After grace_ms it is killed.
  void Join(int64_t grace_ms);
  WorkerProcess Worker() const;

 private:
  void Run();
  pid_t Spawn(const std::string& worker_id, const Heartbeat& heartbeat);
  // How a worker ended, in words, and the reason that its attempt's error gets.
  struct End {
    std::string how;
    std::string_view reason = kWorkerDied;
    bool frozen = false;  // it was killed by its supervisor
  };
  // Waits for the process's end, which it brings about where the process is frozen, and returns how
  // it ended. killed_before is what KilledForMemory() was when the process was started.
  End Await(pid_t pid, const Heartbeat& heartbeat, int64_t killed_before);
  // Why the process has to be killed, in words. Empty: it lives, or may.
  std::string WhyKill(pid_t pid, const Heartbeat& heartbeat) const;
  void ReleaseJobs(const std::string& worker_id, const End& end);

  const std::vector<std::string> arguments_;
  const std::string device_;
  const int64_t lease_ms_;
  JobStore& store_;
  // Guards what is below it, and signals to pid_, so that none goes to a later process with the
  // same number.
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::atomic<pid_t> pid_{0};
  std::string worker_id_;
  int64_t restarts_ = 0;
  std::thread thread_;
};

}  // namespace svdllm
