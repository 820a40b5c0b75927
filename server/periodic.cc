#include "server/periodic.h"

#include <chrono>
#include <utility>

namespace svdllm {

PeriodicThread::PeriodicThread(int64_t first_ms, std::function<int64_t()> step)
    : step_(std::move(step)), thread_([this, first_ms] { Run(first_ms); }) {}

PeriodicThread::~PeriodicThread() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void PeriodicThread::Run(int64_t wait_ms) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!wake_.wait_for(lock, std::chrono::milliseconds(wait_ms), [this] { return stop_; })) {
    lock.unlock();
    wait_ms = step_();
    lock.lock();
  }
}

}  // namespace svdllm
