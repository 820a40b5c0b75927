#include "server/confine.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

// What a confined child finds, a letter each: '+' done, '-' refused, in the order of the attempts.
template <typename Attempts>
std::string InConfinedChild(const Confinement& confinement, const Attempts& attempts) {
  int ends[2];
  if (pipe(ends) != 0) return "no pipe";
  const pid_t child = fork();
  if (child == 0) {
    const absl::Status confined = Confine(confinement);
    const std::string found = confined.ok() ? attempts() : confined.ToString();
    const ssize_t written = write(ends[1], found.data(), found.size());
    _exit(written == static_cast<ssize_t>(found.size()) ? 0 : 1);
  }
  close(ends[1]);
  std::string found;
  char buffer[512];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) {
    found.append(buffer, static_cast<size_t>(n));
  }
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return found;
}

char Said(bool done) { return done ? '+' : '-'; }

bool CanOpen(const std::string& path, int flags) {
  const int fd = open(path.c_str(), flags | O_CLOEXEC, 0600);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

bool CanMakeSocket(int family, int type = SOCK_STREAM) {
  const int fd = socket(family, type, 0);
  if (fd >= 0) close(fd);
  return fd >= 0;
}

class ConfineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!NotConfined().empty()) GTEST_SKIP() << NotConfined();
    for (const char* name : {"models", "out", "out/below", "tries", "secret"}) {
      std::filesystem::create_directories(dir_.File(name));
      std::ofstream(dir_.File(std::string(name) + "/file")) << "x";
    }
    std::ofstream(dir_.File("store")) << "x";
    std::filesystem::create_symlink(dir_.File("secret/file"), dir_.File("models/link"));
    confinement_.read = PathsOfProgram();
    confinement_.read.push_back(dir_.File("models"));
    confinement_.read.push_back(dir_.File("not there"));
    confinement_.write = {dir_.File("out"), dir_.File("store")};
    confinement_.make_directories = {dir_.File("tries")};
  }

  testing::TempDir dir_;
  Confinement confinement_;
};

TEST_F(ConfineTest, FilesAreKeptApart) {
  const std::string found = InConfinedChild(confinement_, [&] {
    std::string said;
    said += Said(CanOpen(dir_.File("models/file"), O_RDONLY));
    said += Said(CanOpen(dir_.File("out/new"), O_WRONLY | O_CREAT | O_TRUNC));
    said += Said(rename(dir_.File("out/new").c_str(), dir_.File("out/below/new").c_str()) == 0);
    said += Said(CanOpen(dir_.File("store"), O_RDWR | O_TRUNC));
    said += Said(mkdir(dir_.File("tries/new").c_str(), 0700) == 0);
    said += Said(rmdir(dir_.File("tries/new").c_str()) == 0);
    said += Said(CanOpen("/dev/null", O_RDWR));
    said += Said(CanOpen("/proc/self/status", O_RDONLY));
    said += ' ';
    said += Said(CanOpen(dir_.File("models/file"), O_WRONLY));
    said += Said(CanOpen(dir_.File("models/new"), O_WRONLY | O_CREAT));
    said += Said(unlink(dir_.File("models/file").c_str()) == 0);
    said += Said(CanOpen(dir_.File("models/link"), O_RDONLY));
    said += Said(CanOpen(dir_.File("secret/file"), O_RDONLY));
    said += Said(CanOpen(dir_.File("store-2"), O_WRONLY | O_CREAT));
    said += Said(CanOpen(dir_.File("tries/file"), O_RDONLY));
    said += Said(CanOpen(dir_.File("tries/new"), O_WRONLY | O_CREAT));
    said += Said(unlink(dir_.File("tries/file").c_str()) == 0);
    said += Said(CanOpen("/etc/passwd", O_RDONLY));
    said += Said(CanOpen("/proc/" + std::to_string(getppid()) + "/environ", O_RDONLY));
    return said;
  });
  EXPECT_EQ(found, "++++++++ -----------");
}

TEST_F(ConfineTest, CallsThatNoJobMakesAreRefusedAndDoNotEndIt) {
  const std::string found = InConfinedChild(confinement_, [] {
    std::string said;
    for (const int family : {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK}) {
      said += Said(CanMakeSocket(family));
    }
    said += Said(CanMakeSocket(AF_INET, SOCK_DGRAM));
    const auto refused = [&said](long result) { said += Said(result >= 0 || errno != EPERM); };
    refused(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr));
    refused(mount("none", "/", nullptr, MS_REMOUNT, nullptr));
    refused(umount2("/nowhere", 0));
    refused(unshare(0));
    refused(syscall(SYS_bpf, 0, nullptr, 0));
    refused(execl("/bin/true", "true", nullptr));
    return said;
  });
  EXPECT_EQ(found, "-----------");
}

TEST_F(ConfineTest, TheServerIsOutOfReachOfSignals) {
  constexpr long kCreateRuleset = 444;
  if (syscall(kCreateRuleset, nullptr, size_t{0}, 1U) < 6) GTEST_SKIP() << "Landlock is too old";
  const std::string found = InConfinedChild(confinement_, [] {
    return std::string() + Said(kill(getppid(), 0) == 0) + Said(kill(getpid(), 0) == 0);
  });
  EXPECT_EQ(found, "-+");
}

// What a driver needs; whether it is enough can only be seen where there is one.
TEST_F(ConfineTest, ACudaDeviceKeepsItsSocketsAndPrograms) {
  confinement_.cuda = true;
  const std::string found = InConfinedChild(confinement_, [&] {
    std::string said;
    for (const int family : {AF_UNIX, AF_NETLINK, AF_INET, AF_INET6}) {
      said += Said(CanMakeSocket(family, family == AF_NETLINK ? SOCK_RAW : SOCK_STREAM));
    }
    said += Said(CanOpen("/dev/shm/svdllm-confine-test", O_RDWR | O_CREAT));
    unlink("/dev/shm/svdllm-confine-test");
    const pid_t child = fork();
    if (child == 0) {
      execl("/bin/true", "true", nullptr);
      _exit(1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    said += Said(status == 0);
    said += Said(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0);
    return said;
  });
  EXPECT_EQ(found, "++--++-");
}

TEST_F(ConfineTest, NoNewPrivilegesNoCoreAndFewDescriptors) {
  const std::string found = InConfinedChild(confinement_, [] {
    std::string said;
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
      if (line.starts_with("NoNewPrivs:") || line.starts_with("Seccomp:")) said += line.back();
    }
    rlimit limit;
    getrlimit(RLIMIT_CORE, &limit);
    said += Said(limit.rlim_max == 0);
    getrlimit(RLIMIT_NOFILE, &limit);
    said += Said(limit.rlim_cur > 0 && limit.rlim_max <= 4096);
    return said;
  });
  EXPECT_EQ(found, "12++");
}

TEST_F(ConfineTest, AThreadThatWouldGoFreeIsAnError) {
  const pid_t child = fork();
  if (child == 0) {
    std::thread other([] { pause(); });
    _exit(absl::IsFailedPrecondition(Confine(confinement_)) ? 0 : 1);
  }
  int status = 1;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace svdllm
