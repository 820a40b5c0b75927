// What this process may use of its machine: of a container, not of the host that it runs on.
// Thread-safe. Everything is read anew in every call.
#pragma once

#include <cstdint>
#include <string>

namespace svdllm {

// Where the kernel tells of control groups; tests put files of their own there.
struct MachineFiles {
  std::string own_groups = "/proc/self/cgroup";
  std::string group_root = "/sys/fs/cgroup";
  std::string vmstat = "/proc/vmstat";
};

// Bytes of memory: the machine's, or the least limit of the process's control group (version 1 or
// 2) and of the groups above it where that is lower.
int64_t UsableMemoryBytes(const MachineFiles& files = {});

// Processors that computing threads find free at a time, at least 1: those that the process may run
// on, or as many as the least CPU quota of its control groups pays for, rounded up, where those are
// fewer.
int UsableCores(const MachineFiles& files = {});

// How many processes the kernel has killed for want of memory: in the process's control group, or,
// where that does not count them, on the whole machine. -1: it does not say.
int64_t KilledForMemory(const MachineFiles& files = {});

}  // namespace svdllm
