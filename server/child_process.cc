#include "server/child_process.h"

#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

extern char** environ;

namespace svdllm {
namespace {

// Whether a variable is handed on. Prefixes: this program's settings, threads and kernels of its
// libraries, devices, the loader's and the sanitizers' ways.
bool IsHandedOn(std::string_view variable) {
  constexpr std::array<std::string_view, 6> kNames = {
      "PATH=", "HOME=", "LANG=", "TZ=", "TMPDIR=", "USER="};
  constexpr std::array<std::string_view, 15> kPrefixes = {
      "SVDLLM_", "OMP_", "GOMP_", "OPENBLAS_", "MKL_",  "DNNL_",  "ONEDNN_", "CUDA_",
      "NVIDIA_", "LD_",  "LC_",   "ASAN_",     "LSAN_", "UBSAN_", "TSAN_"};
  const auto begins = [variable](std::string_view with) { return variable.starts_with(with); };
  return std::any_of(kNames.begin(), kNames.end(), begins) ||
         std::any_of(kPrefixes.begin(), kPrefixes.end(), begins) || begins("FAKE_");
}

}  // namespace

absl::StatusOr<pid_t> SpawnSelf(const std::vector<std::string>& arguments,
                                std::span<const int> inherited) {
  std::vector<std::string> words = {"svdllm-server"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv, environment;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  for (char** variable = environ; *variable != nullptr; ++variable) {
    if (IsHandedOn(*variable)) environment.push_back(*variable);
  }
  environment.push_back(nullptr);

  // The child must not inherit that this process handles its signals in a thread of its own.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", 0, 0);
  // Onto itself: the descriptor stays open in the child, and in no other child.
  for (const int fd : inherited) posix_spawn_file_actions_adddup2(&files, fd, fd);
  pid_t pid = 0;
  const int error =
      posix_spawn(&pid, "/proc/self/exe", &files, &attributes, argv.data(), environment.data());
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) return absl::UnavailableError(std::string("posix_spawn: ") + strerror(error));
  return pid;
}

absl::Status TieToParent(int64_t parent_pid) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent_pid) return absl::AbortedError("the server is gone");
  return absl::OkStatus();
}

std::string EndOf(int wait_status) {
  if (WIFSIGNALED(wait_status)) {
    const int signal = WTERMSIG(wait_status);
    return "killed by signal " + std::to_string(signal) + " (" + strsignal(signal) + ")" +
           (signal == SIGBUS ? ": a file that it read was shortened meanwhile" : "");
  }
  return "exited with status " + std::to_string(WEXITSTATUS(wait_status));
}

}  // namespace svdllm
