// Wakes the streams that watch jobs whenever the job store has changed, in this process or in
// another.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "queue/job_store.h"

namespace svdllm {

class Watcher {
 public:
  virtual ~Watcher() = default;
  // Something may have changed. The hub's thread calls this, one call at a time, and holds none of
  // its locks meanwhile.
  virtual void Notify() = 0;
  // The server goes away: the watcher has to end now.
  virtual void Shutdown() = 0;
};

inline constexpr size_t kMostWatchers = 4096;  // shown in ServerInfo

// Thread-safe.
class WatchHub {
 public:
  explicit WatchHub(JobStore& store, int64_t poll_ms, size_t most_watchers = kMostWatchers);
  ~WatchHub();

  // Adds a watcher without keeping it alive: one that is gone is forgotten. RESOURCE_EXHAUSTED with
  // SERVER_BUSY where as many watch as may, UNAVAILABLE after Shutdown.
  absl::Status Add(const std::shared_ptr<Watcher>& watcher);
  // Ends every watcher. Later ones are refused.
  void Shutdown();
  size_t size() const;

 private:
  void Run();
  std::vector<std::shared_ptr<Watcher>> Living();

  JobStore& store_;
  const int64_t poll_ms_;
  const size_t most_watchers_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<std::weak_ptr<Watcher>> watchers_;
  bool shutdown_ = false;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace svdllm
