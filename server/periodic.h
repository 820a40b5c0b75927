// A thread that does something from time to time.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace svdllm {

// Calls a step until it is destroyed, which waits for a step that runs.
class PeriodicThread {
 public:
  // After first_ms, and then as long after each step as the step says. Steps do not throw.
  PeriodicThread(int64_t first_ms, std::function<int64_t()> step);
  ~PeriodicThread();
  PeriodicThread(const PeriodicThread&) = delete;
  PeriodicThread& operator=(const PeriodicThread&) = delete;

 private:
  void Run(int64_t wait_ms);

  const std::function<int64_t()> step_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace svdllm
