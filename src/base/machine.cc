#include "base/machine.h"

#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <string_view>
#include <thread>
#include <vector>

namespace svdllm {
namespace {

bool IsDirectory(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// The first words of a file; none where it is not there.
std::vector<std::string> Words(const std::string& path) {
  std::ifstream in(path);
  std::vector<std::string> words;
  for (std::string word; words.size() < 1024 && in >> word;) words.push_back(word);
  return words;
}

std::optional<int64_t> Number(const std::string& word) {
  int64_t number = 0;
  std::istringstream in(word);
  if (!(in >> number)) return std::nullopt;
  return number;
}

// The value behind a key of a file such as memory.events.
std::optional<int64_t> ValueOf(const std::string& path, std::string_view key) {
  const std::vector<std::string> words = Words(path);
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    if (words[i] == key) return Number(words[i + 1]);
  }
  return std::nullopt;
}

// The directories of the process's group in a hierarchy and of the groups above it, from the inside
// out. mount: of the hierarchy; controllers: as /proc/self/cgroup names it, empty for version 2.
std::vector<std::string> GroupDirs(const MachineFiles& files, const std::string& mount,
                                   const std::string& controllers) {
  std::ifstream in(files.own_groups);
  std::string path = "/";
  for (std::string line; std::getline(in, line);) {  // "4:memory:/a/b", "0::/a/b"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    const bool is_it = controllers.empty()
                           ? names.empty()
                           : ("," + names + ",").find("," + controllers + ",") != std::string::npos;
    if (is_it) path = line.substr(second + 1);
  }
  // In a container the mount may begin at the own group while the path is the host's.
  if (!IsDirectory(mount + path)) path = "/";
  std::vector<std::string> dirs;
  while (!path.empty() && path != "/") {
    dirs.push_back(mount + path);
    path = path.substr(0, path.rfind('/'));
  }
  dirs.push_back(mount);
  return dirs;
}

// Version 2 by itself, or beside version 1.
std::string UnifiedMount(const MachineFiles& files) {
  const std::string beside = files.group_root + "/unified";
  return IsDirectory(beside) ? beside : files.group_root;
}

}  // namespace

int64_t UsableMemoryBytes(const MachineFiles& files) {
  int64_t least = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  const auto limit = [&least](const std::string& path) {
    const std::vector<std::string> words = Words(path);  // "max" where there is none
    const auto bytes = words.empty() ? std::nullopt : Number(words[0]);
    if (bytes && *bytes > 0) least = std::min(least, *bytes);
  };
  for (const std::string& dir : GroupDirs(files, UnifiedMount(files), "")) {
    limit(dir + "/memory.max");
  }
  for (const std::string& dir : GroupDirs(files, files.group_root + "/memory", "memory")) {
    limit(dir + "/memory.limit_in_bytes");
  }
  return least;
}

int UsableCores(const MachineFiles& files) {
  cpu_set_t set;
  CPU_ZERO(&set);
  int cores = sched_getaffinity(0, sizeof(set), &set) == 0
                  ? CPU_COUNT(&set)
                  : static_cast<int>(std::thread::hardware_concurrency());
  const auto quota = [&cores](std::optional<int64_t> time, std::optional<int64_t> period) {
    if (!time || !period || *time <= 0 || *period <= 0) return;
    cores = static_cast<int>(std::min<int64_t>(cores, (*time + *period - 1) / *period));
  };
  for (const std::string& dir : GroupDirs(files, UnifiedMount(files), "")) {
    const std::vector<std::string> words = Words(dir + "/cpu.max");  // "max 100000"
    if (words.size() == 2) quota(Number(words[0]), Number(words[1]));
  }
  for (const char* const mount : {"/cpu", "/cpu,cpuacct"}) {
    for (const std::string& dir : GroupDirs(files, files.group_root + mount, "cpu")) {
      const std::vector<std::string> time = Words(dir + "/cpu.cfs_quota_us"),  // -1: none
          period = Words(dir + "/cpu.cfs_period_us");
      if (!time.empty() && !period.empty()) quota(Number(time[0]), Number(period[0]));
    }
  }
  return std::max(cores, 1);
}

int64_t KilledForMemory(const MachineFiles& files) {
  const std::string own = GroupDirs(files, UnifiedMount(files), "").front();
  if (const auto killed = ValueOf(own + "/memory.events", "oom_kill")) return *killed;
  const std::string old = GroupDirs(files, files.group_root + "/memory", "memory").front();
  if (const auto killed = ValueOf(old + "/memory.oom_control", "oom_kill")) return *killed;
  return ValueOf(files.vmstat, "oom_kill").value_or(-1);
}

}  // namespace svdllm
