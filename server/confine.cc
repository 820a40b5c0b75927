#include "server/confine.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "base/files.h"

namespace svdllm {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // the leak checker traces the process, reports are written
#else
constexpr bool kSanitized = false;
#endif

constexpr rlim_t kDescriptors = 4096;

absl::Status Failed(const std::string& what) {
  return absl::InternalError(what + ": " + std::strerror(errno));
}

// By the kernel's numbers: the headers of older systems have only some of the names.
namespace landlock {
constexpr long kCreateRuleset = 444, kAddRule = 445, kRestrictSelf = 446;
constexpr uint32_t kVersion = 1, kPathBeneath = 1;
constexpr uint64_t kWriteFile = 1 << 1, kReadFile = 1 << 2, kReadDir = 1 << 3;
constexpr uint64_t kRemoveDir = 1 << 4, kMakeDir = 1 << 7;
constexpr uint64_t kFirst = (1 << 13) - 1;  // version 1: 13 rights, from execute to make_sym
constexpr uint64_t kRefer = 1 << 13, kTruncate = 1 << 14, kExecute = 1;
constexpr uint64_t kOfFiles = kExecute | kWriteFile | kReadFile | kTruncate;
constexpr uint64_t kRead = kReadFile | kReadDir;
constexpr uint64_t kNoTcp = (1 << 0) | (1 << 1);        // bind, connect
constexpr uint64_t kNoStrangers = (1 << 0) | (1 << 1);  // abstract sockets and signals of others
// Before version 2 nothing can be renamed from one directory into another, which is how results
// are published.
constexpr long kLeast = 2;

struct Rules {
  uint64_t files, network, scoped;
};
struct [[gnu::packed]] Beneath {
  uint64_t allowed;
  int32_t parent;
};

long Version() { return syscall(kCreateRuleset, nullptr, size_t{0}, kVersion); }

absl::Status Allow(int rules, const std::string& path, uint64_t rights) {
  const Descriptor at(open(path.c_str(), O_PATH | O_CLOEXEC));
  if (at.get() < 0) return absl::OkStatus();  // what is not there needs no rule
  struct stat info;
  const bool is_file = fstat(at.get(), &info) == 0 && !S_ISDIR(info.st_mode);
  const Beneath rule{is_file ? rights & kOfFiles : rights, at.get()};
  if (rule.allowed == 0 || syscall(kAddRule, rules, kPathBeneath, &rule, 0U) == 0) {
    return absl::OkStatus();
  }
  return Failed("Landlock, " + path);
}

absl::Status Restrict(const Confinement& confinement) {
  const long version = Version();
  Rules asked{kFirst | kRefer | (version >= 3 ? kTruncate : 0), 0, 0};
  if (version >= 4) asked.network = kNoTcp;
  if (version >= 6) asked.scoped = kNoStrangers;
  // The kernel takes a longer structure than it knows where the rest is zero.
  const Descriptor rules(static_cast<int>(syscall(kCreateRuleset, &asked, sizeof(asked), 0U)));
  if (rules.get() < 0) return Failed("Landlock");
  const uint64_t all = asked.files & ~kExecute;
  absl::Status status;
  const auto allow = [&](const std::vector<std::string>& paths, uint64_t rights) {
    for (const std::string& path : paths) {
      if (status.ok()) status = Allow(rules.get(), path, rights & asked.files);
    }
  };
  allow(confinement.read, kRead);
  allow(confinement.write, all);
  allow(confinement.make_directories, kReadDir | kMakeDir | kRemoveDir);
  allow({"/dev"}, kRead | kWriteFile);
  if (confinement.cuda) {
    // Its caches of compiled kernels, its pipes, and the program that makes its device files.
    allow({"/proc", "/tmp", "/var/tmp", "/dev/shm", "/run"}, all);
    for (const char* variable : {"CUDA_CACHE_PATH", "CUDA_MPS_PIPE_DIRECTORY", "TMPDIR"}) {
      if (const char* path = std::getenv(variable)) allow({path}, all);
    }
    if (const char* home = std::getenv("HOME")) allow({std::string(home) + "/.nv"}, all);
    allow({"/usr", "/bin", "/sbin", "/lib", "/lib64"}, kRead | kExecute);
    allow({"/etc", "/opt"}, kRead);
  }
  if (status.ok() && syscall(kRestrictSelf, rules.get(), 0U) != 0) status = Failed("Landlock");
  return status;
}
}  // namespace landlock

#if defined(__x86_64__)
constexpr uint32_t kMachine = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t kMachine = AUDIT_ARCH_AARCH64;
#else
constexpr uint32_t kMachine = 0;
#endif

bool HasSeccomp() {
  const uint32_t action = SECCOMP_RET_ERRNO;
  return kMachine != 0 && syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0U, &action) == 0;
}

// Calls that no job makes, and with which a process gets at others or at more of the kernel.
constexpr uint32_t kRefused[] = {
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_kexec_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_bpf,
    SYS_add_key,
    SYS_keyctl,
    SYS_request_key,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_unshare,
    SYS_setns,
    SYS_open_by_handle_at,
    SYS_acct,
    SYS_swapon,
    SYS_swapoff,
    SYS_reboot,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_sethostname,
    SYS_syslog,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
#ifdef SYS_pidfd_getfd
    SYS_pidfd_getfd,
#endif
#ifdef SYS_open_tree
    SYS_open_tree,
    SYS_move_mount,
    SYS_fsopen,
    SYS_fsmount,
#endif
};
// Calls that a CUDA driver may make. io_uring opens sockets without socket().
constexpr uint32_t kRefusedOnCpu[] = {
    SYS_execve,
    SYS_execveat,
    SYS_socket,
#ifdef SYS_io_uring_setup
    SYS_io_uring_setup,
#endif
};

absl::Status Filter(bool cuda) {
  std::vector<sock_filter> code;
  constexpr uint16_t kLoad = BPF_LD | BPF_W | BPF_ABS, kReturn = BPF_RET | BPF_K;
  constexpr uint16_t kIfEqual = BPF_JMP | BPF_JEQ | BPF_K;
  constexpr uint32_t kRefuse = SECCOMP_RET_ERRNO | EPERM;
  const auto say = [&code](uint16_t operation, uint32_t value) {
    code.push_back({operation, 0, 0, value});
  };
  const auto refuse = [&](uint32_t call) {
    code.push_back({kIfEqual, 0, 1, call});  // or the next instruction is passed over
    say(kReturn, kRefuse);
  };
  say(kLoad, offsetof(seccomp_data, arch));
  code.push_back({kIfEqual, 1, 0, kMachine});
  say(kReturn, kRefuse);  // calls of another machine have other numbers
  say(kLoad, offsetof(seccomp_data, nr));
#if defined(__x86_64__)
  code.push_back({BPF_JMP | BPF_JGE | BPF_K, 0, 1, 0x40000000});  // so have those of x32
  say(kReturn, kRefuse);
#endif
  for (const uint32_t call : kRefused) refuse(call);
  if (cuda) {
    // Of sockets, those that reach nobody outside the machine are left.
    code.push_back({kIfEqual, 0, 4, SYS_socket});
    say(kLoad, offsetof(seccomp_data, args));
    code.push_back({kIfEqual, 2, 0, AF_UNIX});
    code.push_back({kIfEqual, 1, 0, AF_NETLINK});
    say(kReturn, kRefuse);
  } else {
    for (const uint32_t call : kRefusedOnCpu) refuse(call);
  }
  say(kReturn, SECCOMP_RET_ALLOW);
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  // For threads that run already too.
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) {
    return Failed("seccomp");
  }
  return absl::OkStatus();
}

// Landlock holds the thread that asks for it and those that it starts: one that a library has
// started before would go free.
bool HasOneThread() {
  return NamesIn("/proc/self/task").size() <= 1;  // none: without /proc nobody can tell
}

}  // namespace

std::string NotConfined() {
  if (kSanitized) return "a build with sanitizers traces itself, and is not confined";
  std::string missing;
  const auto miss = [&missing](const char* what) {
    missing += (missing.empty() ? "" : "; ") + std::string(what);
  };
  const long version = landlock::Version();
  if (version < landlock::kLeast) {
    miss(version < 0
             ? "the kernel has no Landlock: jobs may reach files that are not theirs"
             : "the kernel's Landlock is too old: jobs may reach files that are not theirs");
  }
  if (!HasSeccomp()) miss("the kernel has no seccomp filters: jobs may make any call");
  return missing;
}

std::vector<std::string> PathsOfProgram() {
  std::vector<std::string> paths = {"/usr",
                                    "/lib",
                                    "/lib32",
                                    "/lib64",
                                    "/etc/ld.so.cache",
                                    "/etc/localtime",
                                    "/etc/ssl/openssl.cnf",
                                    "/proc/self",
                                    "/proc/sys",
                                    "/proc/stat",
                                    "/proc/cpuinfo",
                                    "/proc/meminfo",
                                    "/proc/driver",
                                    "/proc/devices",
                                    "/proc/modules",
                                    "/sys"};
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    for (const char* place : {"", "../lib/svdllm", "../modules"}) {
      paths.push_back((program.parent_path() / place).string());
    }
  }
  for (const char* variable : {"SVDLLM_MODULE_DIR", "LD_LIBRARY_PATH"}) {
    const char* const set = std::getenv(variable);
    std::string rest = set == nullptr ? "" : set;
    while (!rest.empty()) {
      const size_t colon = std::min(rest.find(':'), rest.size());
      if (colon > 0) paths.push_back(rest.substr(0, colon));
      rest.erase(0, colon + 1);
    }
  }
  return paths;
}

bool HasCudaDevices() {
  const std::vector<std::string> names = NamesIn("/dev");
  return std::any_of(names.begin(), names.end(), [](const std::string& name) {
    return name.starts_with("nvidia") || name.starts_with("nvhost") || name.starts_with("nvmap") ||
           name == "dxg";
  });
}

absl::Status Confine(const Confinement& confinement) {
  if (kSanitized) return absl::OkStatus();
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  prctl(PR_SET_DUMPABLE, 0);  // also where cores are handed to a program, which no limit stops
  rlimit files;
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_max = std::min(files.rlim_max, kDescriptors);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return Failed("no new privileges");
  absl::Status status;
  if (landlock::Version() >= landlock::kLeast) {
    status = HasOneThread() ? landlock::Restrict(confinement)
                            : absl::FailedPreconditionError(
                                  "Landlock: another thread runs already, and would go free");
  }
  if (HasSeccomp()) status.Update(Filter(confinement.cuda));
  return status;
}

}  // namespace svdllm
