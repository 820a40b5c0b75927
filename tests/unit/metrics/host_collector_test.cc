#include "metrics/host_collector.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <atomic>
#include <chrono>
#include <ctime>
#include <fstream>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace svdllm {
namespace {

// The values of a family's series, by the first label's value.
std::map<std::string, double> Values(const HostCollector& collector, const std::string& name) {
  std::map<std::string, double> values;
  for (const prometheus::MetricFamily& family : collector.Collect()) {
    if (family.name != name) continue;
    for (const prometheus::ClientMetric& metric : family.metric) {
      const double value = family.type == prometheus::MetricType::Counter ? metric.counter.value
                                                                          : metric.gauge.value;
      values[metric.label.empty() ? "" : metric.label[0].value] = value;
    }
  }
  return values;
}

double Value(const std::string& name) {
  const auto values = Values(HostCollector({}), name);
  EXPECT_EQ(values.size(), 1u) << name;
  return values.empty() ? -1 : values.begin()->second;
}

TEST(HostCollectorTest, FollowsTheProcess) {
  const double files = Value("process_open_fds");
  const double threads = Value("process_threads");
  {
    const std::ifstream one("/proc/self/stat"), two("/proc/self/stat");
    EXPECT_EQ(Value("process_open_fds"), files + 2);
  }
  EXPECT_EQ(Value("process_open_fds"), files);
  EXPECT_GT(Value("process_max_fds"), files);
  std::atomic<bool> stop{false};
  std::thread thread([&stop] {
    while (!stop) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  EXPECT_EQ(Value("process_threads"), threads + 1);
  stop = true;
  thread.join();

  const double cpu = Value("process_cpu_seconds_total");
  const std::clock_t begin = std::clock();
  while (std::clock() - begin < CLOCKS_PER_SEC / 10) {
  }
  EXPECT_NEAR(Value("process_cpu_seconds_total") - cpu, 0.1, 0.04);

  const double resident = Value("process_resident_memory_bytes");
  const std::vector<char> memory(64 << 20, 'x');
  EXPECT_NEAR(Value("process_resident_memory_bytes") - resident, 64 << 20, 4 << 20);
  EXPECT_GT(Value("process_virtual_memory_bytes"), Value("process_resident_memory_bytes"));
}

TEST(HostCollectorTest, KnowsWhenTheProcessWasStarted) {
  const auto now = static_cast<double>(std::time(nullptr));
  EXPECT_LE(Value("process_start_time_seconds"), now + 2);
  EXPECT_GT(Value("process_start_time_seconds"), now - 600) << "this test takes no ten minutes";
}

TEST(HostCollectorTest, MeasuresTheVolumesThatAreThere) {
  const HostCollector collector(
      {{"data_dir", ::testing::TempDir()}, {"gone", "/not/there"}, {"unset", ""}});
  struct statvfs volume {};
  ASSERT_EQ(statvfs(::testing::TempDir().c_str(), &volume), 0);
  const auto block = static_cast<double>(volume.f_frsize);
  const auto size = Values(collector, "svdllm_volume_size_bytes");
  EXPECT_THAT(size, ::testing::ElementsAre(
                        ::testing::Pair("data_dir", block * static_cast<double>(volume.f_blocks))));
  const auto free = Values(collector, "svdllm_volume_free_bytes");
  ASSERT_EQ(free.size(), 1u);
  // Others write meanwhile.
  EXPECT_NEAR(free.at("data_dir"), block * static_cast<double>(volume.f_bavail), 1 << 30);
}

TEST(HostCollectorTest, KnowsWhenTheBackupWasMade) {
  const std::string name = "svdllm_store_backup_timestamp_seconds";
  EXPECT_TRUE(Values(HostCollector({}, "/not/there"), name).empty()) << "not 0, which is a time";
  const std::string path = ::testing::TempDir() + "host_collector_backup";
  std::ofstream(path) << "x";
  const timespec times[2] = {{0, UTIME_OMIT}, {1700000000, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
  const auto values = Values(HostCollector({}, path), name);
  ASSERT_EQ(values.size(), 1u);
  EXPECT_EQ(values.begin()->second, 1700000000);
}

}  // namespace
}  // namespace svdllm
