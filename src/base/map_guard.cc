#include "base/map_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

namespace svdllm {
namespace {

// A signal's handler may look at these without a lock.
struct Map {
  std::atomic<uintptr_t> begin{0}, end{0};  // end 0: free
  std::atomic<bool> torn{false};
};
constexpr size_t kMostMaps = 4096;
std::array<Map, kMostMaps> maps;
std::atomic<bool> any_torn{false};

std::mutex names_mutex;  // of what the handler does not need
std::array<std::string, kMostMaps> names;
std::string torn_name;  // of a map that is undone

uintptr_t page_size = 4096;

// What is gone of a file becomes zeros, from the page on that was read.
void OnFault(int, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Map& map : maps) {
    const uintptr_t end = map.end;
    if (address < map.begin || address >= end) continue;
    const uintptr_t page = address / page_size * page_size;
    void* const zeros = mmap(reinterpret_cast<void*>(page), end - page, PROT_READ,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (zeros == MAP_FAILED) break;
    map.torn = true;
    any_torn = true;
    return;
  }
  // Not ours, and the end of the process.
  signal(SIGBUS, SIG_DFL);
  raise(SIGBUS);
}

}  // namespace

void InstallMapGuard() {
  page_size = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  struct sigaction action {};
  action.sa_sigaction = &OnFault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, nullptr);
}

int WatchMap(const void* begin, size_t size, const std::string& path) {
  const std::lock_guard<std::mutex> lock(names_mutex);
  for (size_t i = 0; i < kMostMaps; ++i) {
    Map& map = maps[i];
    if (map.end != 0) continue;
    names[i] = path;
    map.torn = false;
    map.begin = reinterpret_cast<uintptr_t>(begin);
    map.end = map.begin + size;
    return static_cast<int>(i);
  }
  return -1;
}

void ForgetMap(int number) {
  if (number < 0) return;
  const std::lock_guard<std::mutex> lock(names_mutex);
  Map& map = maps[static_cast<size_t>(number)];
  map.end = 0;
  map.begin = 0;
  if (map.torn.exchange(false)) torn_name = names[static_cast<size_t>(number)];
}

absl::Status CheckMaps() {
  if (!any_torn) return absl::OkStatus();
  const std::lock_guard<std::mutex> lock(names_mutex);
  std::string name = torn_name;
  for (size_t i = 0; i < kMostMaps; ++i) {
    if (maps[i].torn) name = names[i];
  }
  return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                   name + ": became shorter while it was read");
}

void ResetMapGuard() {
  const std::lock_guard<std::mutex> lock(names_mutex);
  any_torn = false;
  torn_name.clear();
}

}  // namespace svdllm
