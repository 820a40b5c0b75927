#include "server/watch_hub.h"

#include <algorithm>
#include <chrono>

namespace svdllm {

WatchHub::WatchHub(JobStore& store, int64_t poll_ms, size_t most_watchers)
    : store_(store), poll_ms_(poll_ms), most_watchers_(most_watchers), thread_([this] { Run(); }) {}

WatchHub::~WatchHub() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

absl::Status WatchHub::Add(const std::shared_ptr<Watcher>& watcher) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (shutdown_) {
    return MakeError(
        absl::StatusCode::kUnavailable, kStoreUnavailable,
        "the server is shutting down; call again, after the last sequence number seen");
  }
  std::erase_if(watchers_, [](const auto& weak) { return weak.expired(); });
  if (watchers_.size() >= most_watchers_) {
    return MakeError(absl::StatusCode::kResourceExhausted, kServerBusy,
                     std::to_string(watchers_.size()) +
                         " callers watch jobs or wait for them, and more are not taken");
  }
  watchers_.push_back(watcher);
  return absl::OkStatus();
}

std::vector<std::shared_ptr<Watcher>> WatchHub::Living() {
  std::vector<std::shared_ptr<Watcher>> living;
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& weak : watchers_) {
    if (auto watcher = weak.lock()) living.push_back(std::move(watcher));
  }
  return living;
}

void WatchHub::Shutdown() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    shutdown_ = true;
  }
  for (const auto& watcher : Living()) watcher->Shutdown();
}

size_t WatchHub::size() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<size_t>(std::count_if(watchers_.begin(), watchers_.end(),
                                           [](const auto& weak) { return !weak.expired(); }));
}

void WatchHub::Run() {
  int64_t version = -1;
  std::unique_lock<std::mutex> lock(mutex_);
  while (!wake_.wait_for(lock, std::chrono::milliseconds(poll_ms_), [this] { return stop_; })) {
    if (watchers_.empty()) continue;
    lock.unlock();
    const auto now = store_.Version();
    // A store that cannot be read now may have changed: the watchers find out.
    if (!now.ok() || *now != version) {
      version = now.ok() ? *now : -1;
      for (const auto& watcher : Living()) watcher->Notify();
    }
    lock.lock();
  }
}

}  // namespace svdllm
