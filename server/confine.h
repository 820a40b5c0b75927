// What a process gives up before it reads anything of a job: a fault in a parser that a hostile
// file has found reaches no further than this.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace svdllm {

struct Confinement {
  // Directories and files, with all below. Those that are not there are left out.
  std::vector<std::string> read;
  std::vector<std::string> write;             // files and directories made, changed and removed too
  std::vector<std::string> make_directories;  // directories made and removed, nothing else changed
  // The driver of a CUDA device opens sockets of its own, starts programs and writes into places of
  // its own: these stay open to it.
  bool cuda = false;
};

// For good, and for every thread and process that this one starts from now on. No new privileges,
// no core dumps (which would hold models and texts), a bound on descriptors; Landlock, where the
// kernel has it, keeps the process to the paths, and where it is new enough (Linux 6.12) to signals
// and abstract sockets of its own; a seccomp filter refuses calls that no job needs with EPERM,
// sockets and the start of programs among them. FAILED_PRECONDITION where there is a second thread
// already, which Landlock would not hold, INTERNAL where the kernel has one of these and refuses
// it; the others are in force then.
absl::Status Confine(const Confinement& confinement);

// What of it the kernel, or this build, does not have, for people; empty: it has everything.
std::string NotConfined();

// Whether the machine has device files of NVIDIA's drivers.
bool HasCudaDevices();

// What this program itself reads, whatever a job is: libraries, modules, devices, what the system
// tells of the machine.
std::vector<std::string> PathsOfProgram();

}  // namespace svdllm
