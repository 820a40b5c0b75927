// Threads that run calls, so that none of gRPC's own ever waits for a disk, a lock or another
// process.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace svdllm {

// Thread-safe.
class CallPool {
 public:
  // At most most_waiting calls wait at a time, beside those that run.
  CallPool(int threads, size_t most_waiting);
  ~CallPool() { Finish(); }
  CallPool(const CallPool&) = delete;
  CallPool& operator=(const CallPool&) = delete;

  // False where as many calls wait as may, or after Finish: this one will not run. Calls must not
  // throw.
  bool Submit(std::function<void()> call);

  // Runs what waits, and takes no more.
  void Finish();

 private:
  void Run();

  const size_t most_waiting_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> waiting_;
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace svdllm
