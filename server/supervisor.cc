#include "server/supervisor.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iterator>
#include <utility>

#include "base/logging.h"
#include "base/machine.h"
#include "server/child_process.h"

namespace svdllm {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPoll(50);
constexpr milliseconds kFirstPause(100);
constexpr milliseconds kLongestPause(10000);
constexpr int64_t kStartMs = 120000;
constexpr int64_t kStoppedMs = 400;

// Whether a process is stopped, by a signal or a debugger.
bool IsStopped(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string stat((std::istreambuf_iterator<char>(file)), {});
  const size_t name_end = stat.rfind(") ");  // a name may have blanks
  return name_end != std::string::npos && (stat[name_end + 2] == 'T' || stat[name_end + 2] == 't');
}

}  // namespace

Supervisor::Supervisor(std::vector<std::string> arguments, std::string device, int64_t lease_ms,
                       JobStore& store)
    : arguments_(std::move(arguments)),
      device_(std::move(device)),
      lease_ms_(lease_ms),
      store_(store),
      thread_([this] { Run(); }) {}

Supervisor::~Supervisor() { Join(0); }

void Supervisor::RequestStop() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!stopping_ && pid_ > 0) kill(pid_, SIGTERM);
  stopping_ = true;
  wake_.notify_all();
}

void Supervisor::Join(int64_t grace_ms) {
  if (!thread_.joinable()) return;
  RequestStop();
  {
    std::unique_lock<std::mutex> lock(mutex_);
    const bool ended = wake_.wait_for(lock, milliseconds(grace_ms), [this] { return pid_ == 0; });
    if (!ended && pid_ > 0) kill(pid_, SIGKILL);
  }
  thread_.join();
}

WorkerProcess Supervisor::Worker() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {device_, worker_id_, pid_, restarts_};
}

// The thread that starts the worker lives as long as the worker should: the worker's death signal
// is tied to it.
void Supervisor::Run() {
  milliseconds pause = kFirstPause;
  for (int64_t n = 1;; ++n) {
    // The device before the number: jobs are given back by the beginning of an id, which must not
    // be that of another living worker.
    const std::string worker_id =
        kChildWorkerPrefix + std::to_string(getpid()) + "-" + device_ + "-" + std::to_string(n);
    const auto started = std::chrono::steady_clock::now();
    const int64_t killed_before = KilledForMemory();
    const auto heartbeat = Heartbeat::Create();
    const pid_t pid = heartbeat.ok() ? Spawn(worker_id, *heartbeat) : 0;
    if (!heartbeat.ok()) {
      Log(LogLevel::kError, "no worker started", {{"error", heartbeat.status().ToString()}});
    }
    if (pid > 0) {
      const End end = Await(pid, *heartbeat, killed_before);
      std::unique_lock<std::mutex> lock(mutex_);
      const bool stopping = stopping_;
      lock.unlock();
      Log(stopping ? LogLevel::kInfo : LogLevel::kError, "worker ended",
          {{"worker", worker_id}, {"pid", pid}, {"how", end.how}});
      ReleaseJobs(worker_id, end);
      // The pause is for workers that die as soon as they start, not for those that somebody stops.
      if (end.frozen) pause = kFirstPause;
    }
    if (std::chrono::steady_clock::now() - started > kLongestPause) pause = kFirstPause;
    std::unique_lock<std::mutex> lock(mutex_);
    if (wake_.wait_for(lock, pause, [this] { return stopping_; })) return;
    pause = std::min(pause * 2, kLongestPause);
    ++restarts_;
  }
}

pid_t Supervisor::Spawn(const std::string& worker_id, const Heartbeat& heartbeat) {
  std::vector<std::string> words = arguments_;
  words.push_back("--role=worker");
  words.push_back("--devices=" + device_);
  words.push_back("--worker_id=" + worker_id);
  words.push_back("--parent_pid=" + std::to_string(getpid()));
  words.push_back("--heartbeat_fd=" + std::to_string(heartbeat.fd()));
  std::lock_guard<std::mutex> lock(mutex_);
  if (stopping_) return 0;
  const int inherited[] = {heartbeat.fd()};
  const auto pid = SpawnSelf(words, inherited);
  if (!pid.ok()) {
    Log(LogLevel::kError, "no worker started", {{"error", std::string(pid.status().message())}});
    return 0;
  }
  pid_ = *pid;
  worker_id_ = worker_id;
  Log(LogLevel::kInfo, "worker started", {{"worker", worker_id}, {"pid", *pid}});
  return *pid;
}

std::string Supervisor::WhyKill(pid_t pid, const Heartbeat& heartbeat) const {
  const int64_t silent_ms = heartbeat.SilentMs();
  const auto silent = [silent_ms](const std::string& what) {
    return what + ": no sign of life for " + std::to_string(silent_ms / 1000) + " s";
  };
  // Before its first sign a worker opens its device, which takes what it takes; but not while it is
  // stopped.
  if (silent_ms > lease_ms_ && (heartbeat.HasBeaten() || silent_ms > kStartMs || IsStopped(pid))) {
    return silent("it is frozen");
  }
  // A slow disk looks the same but for the process's state, and must not cost an attempt.
  if (silent_ms > kStoppedMs && heartbeat.WritingMs() > kStoppedMs && IsStopped(pid)) {
    return silent("it was stopped while it held the job store");
  }
  return "";
}

Supervisor::End Supervisor::Await(pid_t pid, const Heartbeat& heartbeat, int64_t killed_before) {
  std::string killed;  // why we did
  while (true) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      int status = 0;
      const pid_t ended = waitpid(pid, &status, WNOHANG);
      if (ended != 0) {
        pid_ = 0;
        wake_.notify_all();
        if (ended < 0) return {.how = "cannot be waited for"};
        if (!killed.empty()) return {.how = killed + ", and was killed", .frozen = true};
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
            KilledForMemory() > killed_before) {
          return {.how = "killed by the system for want of memory: it may use " +
                         std::to_string(UsableMemoryBytes() >> 20) + " MiB",
                  .reason = kHostOutOfMemory};
        }
        return {.how = EndOf(status)};
      }
      if (killed.empty()) {
        killed = WhyKill(pid, heartbeat);
        // Not asked first: what is frozen hears nothing.
        if (!killed.empty()) kill(pid, SIGKILL);
      }
    }
    std::this_thread::sleep_for(kPoll);
  }
}

void Supervisor::ReleaseJobs(const std::string& worker_id, const End& end) {
  // Retried: the job would otherwise wait for its lease to run out, which is the bound, not the
  // aim.
  for (int i = 0; i < 5; ++i) {
    const auto released = store_.ReleaseWorkers(worker_id, end.how, end.reason);
    if (released.ok()) {
      if (*released > 0) Log(LogLevel::kWarning, "a dead worker's job is queued again", {});
      return;
    }
    Log(LogLevel::kWarning, "a dead worker's job could not be given back",
        {{"error", released.status().ToString()}});
    std::this_thread::sleep_for(milliseconds(500));
  }
}

}  // namespace svdllm
