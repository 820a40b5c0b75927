#include "base/machine.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <filesystem>

#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;

class MachineTest : public ::testing::Test {
 protected:
  void Put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(dir_.File(path)).parent_path());
    dir_.Write(path, text);
  }

  testing::TempDir dir_;
  const MachineFiles files_{dir_.File("own"), dir_.File("groups"), dir_.File("vmstat")};
};

TEST_F(MachineTest, WithoutGroupsItIsTheWholeMachine) {
  EXPECT_EQ(UsableMemoryBytes(files_), int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE));
  cpu_set_t set;
  ASSERT_EQ(sched_getaffinity(0, sizeof(set), &set), 0);
  EXPECT_EQ(UsableCores(files_), CPU_COUNT(&set));
  EXPECT_EQ(KilledForMemory(files_), -1);
  Put("vmstat", "pgfault 12\noom_kill 4\n");
  EXPECT_EQ(KilledForMemory(files_), 4);
}

TEST_F(MachineTest, TheLeastLimitOfAGroupAndThoseAboveItCounts) {
  Put("own", "0::/pods/one/container\n");
  Put("groups/pods/one/container/memory.max", "max\n");
  Put("groups/pods/one/container/cpu.max", "max 100000\n");
  Put("groups/pods/one/container/memory.events", "low 0\noom 3\noom_kill 2\n");
  Put("groups/pods/one/memory.max", std::to_string(300 * kMiB) + "\n");
  Put("groups/pods/one/cpu.max", "50000 100000\n");
  Put("groups/pods/memory.max", std::to_string(400 * kMiB) + "\n");
  Put("vmstat", "oom_kill 99\n");
  EXPECT_EQ(UsableMemoryBytes(files_), 300 * kMiB);
  EXPECT_EQ(UsableCores(files_), 1) << "half a core is rounded up";
  EXPECT_EQ(KilledForMemory(files_), 2) << "the group's own";
}

TEST_F(MachineTest, ReadsVersionOneAndHybrids) {
  Put("own", "9:name=systemd:/\n4:memory:/a/b\n1:cpu,cpuacct:/a\n0::/\n");
  Put("groups/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");  // none
  Put("groups/memory/a/memory.limit_in_bytes", std::to_string(200 * kMiB) + "\n");
  Put("groups/memory/a/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n");
  Put("groups/cpu,cpuacct/a/cpu.cfs_quota_us", "100000\n");
  Put("groups/cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
  std::filesystem::create_directories(dir_.File("groups/unified"));
  EXPECT_EQ(UsableMemoryBytes(files_), 200 * kMiB);
  EXPECT_EQ(UsableCores(files_), 1);
  EXPECT_EQ(KilledForMemory(files_), 7);
}

TEST_F(MachineTest, AContainersMountBeginsAtItsOwnGroup) {
  // The path is the host's, and not there in the container.
  Put("own", "4:memory:/docker/0123\n0::/docker/0123\n");
  Put("groups/memory/memory.limit_in_bytes", std::to_string(100 * kMiB) + "\n");
  EXPECT_EQ(UsableMemoryBytes(files_), 100 * kMiB);
  Put("groups/memory.max", std::to_string(50 * kMiB) + "\n");
  EXPECT_EQ(UsableMemoryBytes(files_), 50 * kMiB);
}

TEST_F(MachineTest, NonsenseIsNoLimit) {
  Put("own", "nonsense\n0::\n::::\n");
  Put("groups/memory.max", "many\n");
  Put("groups/cpu.max", "-5 0\n");
  EXPECT_GT(UsableMemoryBytes(files_), kMiB);
  EXPECT_GE(UsableCores(files_), 1);
  Put("groups/memory.max", "");
  EXPECT_GT(UsableMemoryBytes(files_), kMiB);
}

}  // namespace
}  // namespace svdllm
