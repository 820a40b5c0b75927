// What this process may use of its machine: where it runs in a container, what the container has
// and not what the host has. Thread-safe. Everything is read anew in every call.
#pragma once

#include <cstdint>
#include <string>

namespace svdllm {

// Where the kernel tells about control groups. Tests put files of their own there.
struct MachineFiles {
  std::string own_groups = "/proc/self/cgroup";
  std::string group_root = "/sys/fs/cgroup";
  std::string vmstat = "/proc/vmstat";
};

// Returns bytes of memory: the machine's, or the least limit of the process's control group
// (version 1 or 2) and of the groups above it, where that is lower.
int64_t UsableMemoryBytes(const MachineFiles& files = {});

// Returns how many processors computing threads find free at a time, at least 1: those that the
// process may run on, or as many as the least CPU quota of its control groups pays for, rounded up,
// where those are fewer.
int UsableCores(const MachineFiles& files = {});

// Returns how many processes the kernel has killed for want of memory: in the process's control
// group or, where that does not count them, on the whole machine. -1 where the kernel does not say.
int64_t KilledForMemory(const MachineFiles& files = {});

}  // namespace svdllm
