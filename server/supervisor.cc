#include "server/supervisor.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "base/logging.h"
#include "base/machine.h"

extern char** environ;

namespace svdllm {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPoll(50);
constexpr milliseconds kFirstPause(100);
constexpr milliseconds kLongestPause(10000);

}  // namespace

Supervisor::Supervisor(std::vector<std::string> arguments, std::string device, JobStore& store)
    : arguments_(std::move(arguments)),
      device_(std::move(device)),
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
    const pid_t pid = Spawn(worker_id);
    if (pid > 0) {
      const End end = Await(pid, killed_before);
      std::unique_lock<std::mutex> lock(mutex_);
      const bool stopping = stopping_;
      lock.unlock();
      Log(stopping ? LogLevel::kInfo : LogLevel::kError, "worker ended",
          {{"worker", worker_id}, {"pid", pid}, {"how", end.how}});
      ReleaseJobs(worker_id, end);
    }
    if (std::chrono::steady_clock::now() - started > kLongestPause) pause = kFirstPause;
    std::unique_lock<std::mutex> lock(mutex_);
    if (wake_.wait_for(lock, pause, [this] { return stopping_; })) return;
    pause = std::min(pause * 2, kLongestPause);
    ++restarts_;
  }
}

pid_t Supervisor::Spawn(const std::string& worker_id) {
  std::vector<std::string> words = {"svdllm-server"};
  words.insert(words.end(), arguments_.begin(), arguments_.end());
  words.push_back("--role=worker");
  words.push_back("--devices=" + device_);
  words.push_back("--worker_id=" + worker_id);
  words.push_back("--supervisor_pid=" + std::to_string(getpid()));
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  // The worker must not inherit that this process handles its signals in a thread of its own.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  std::lock_guard<std::mutex> lock(mutex_);
  pid_t pid = 0;
  // This very program, also where its file has been replaced meanwhile.
  const int error =
      stopping_ ? ECANCELED
                : posix_spawn(&pid, "/proc/self/exe", nullptr, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) {
    if (!stopping_) Log(LogLevel::kError, "no worker started", {{"error", strerror(error)}});
    return 0;
  }
  pid_ = pid;
  Log(LogLevel::kInfo, "worker started", {{"worker", worker_id}, {"pid", pid}});
  return pid;
}

Supervisor::End Supervisor::Await(pid_t pid, int64_t killed_before) {
  while (true) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      int status = 0;
      const pid_t ended = waitpid(pid, &status, WNOHANG);
      if (ended != 0) {
        pid_ = 0;
        wake_.notify_all();
        if (ended < 0) return {"cannot be waited for"};
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL &&
            KilledForMemory() > killed_before) {
          return {"killed by the system for want of memory: it may use " +
                      std::to_string(UsableMemoryBytes() >> 20) + " MiB",
                  kHostOutOfMemory};
        }
        if (WIFSIGNALED(status)) {
          return {"killed by signal " + std::to_string(WTERMSIG(status)) + " (" +
                  strsignal(WTERMSIG(status)) + ")"};
        }
        return {"exited with status " + std::to_string(WEXITSTATUS(status))};
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
