#include "metrics/device_collector.h"

#include <dlfcn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <cstdlib>

namespace svdllm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr int64_t kGiB = int64_t{1} << 30;

std::string Text(const DeviceCollector& collector) {
  return prometheus::TextSerializer().Serialize(collector.Collect());
}

int Sessions() {
  void* const library = dlopen(FAKE_NVML, RTLD_NOW);
  return reinterpret_cast<int (*)()>(dlsym(library, "fakeNvmlSessions"))();
}

TEST(NvmlTest, ReadsADeviceByItsPlaceOnTheBus) {
  {
    const auto nvml = Nvml::Open(FAKE_NVML);
    ASSERT_TRUE(nvml.ok()) << nvml.status();
    EXPECT_EQ(Sessions(), 1);
    const auto use = (*nvml)->Read("0000:3b:00.0");
    ASSERT_TRUE(use.ok()) << use.status();
    EXPECT_EQ(use->memory_used_bytes, 30 * kGiB);
    EXPECT_EQ(use->memory_bytes, 80 * kGiB);
    EXPECT_EQ(use->utilization, 0.42);
    EXPECT_EQ((*nvml)->Read("0000:5e:00.0")->utilization, std::nullopt);
    const absl::Status absent = (*nvml)->Read("0000:ff:00.0").status();
    EXPECT_EQ(absent.code(), absl::StatusCode::kUnavailable);
    EXPECT_THAT(std::string(absent.message()), HasSubstr("0000:ff:00.0: Not Found"));
  }
  EXPECT_EQ(Sessions(), 0) << "not ended";
}

TEST(NvmlTest, WhatIsMissingIsSaid) {
  const absl::Status library = Nvml::Open("libnot-there.so.1").status();
  EXPECT_EQ(library.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(library.message()), HasSubstr("libnot-there.so.1"));
  const absl::Status another = Nvml::Open("libc.so.6").status();
  EXPECT_THAT(std::string(another.message()), HasSubstr("nvmlInit_v2"));
  setenv("NVML_FAILS", "1", 1);
  const absl::Status driver = Nvml::Open(FAKE_NVML).status();
  unsetenv("NVML_FAILS");
  EXPECT_EQ(driver.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(driver.message()), HasSubstr("Driver Not Loaded"));
}

TEST(DeviceCollectorTest, ShowsWhatCanBeReadOfEachDevice) {
  const DeviceCollector collector(
      {{"cuda:0", "NVIDIA H100", "13.0", "0000:3b:00.0", 79 * kGiB, 16 * kGiB},
       {"cuda:1", "NVIDIA A100", "13.0", "0000:5e:00.0", 40 * kGiB, 40 * kGiB},
       {"cuda:2", "fallen off", "13.0", "0000:ff:00.0", 40 * kGiB, 40 * kGiB},
       {"cpu", "a processor", "", "", 8 * kGiB, 8 * kGiB}},
      FAKE_NVML);
  const std::string text = Text(collector);
  for (const char* line :
       {"svdllm_device_info{device=\"cuda:0\",driver=\"13.0\",model=\"NVIDIA H100\"} 1\n",
        "svdllm_device_info{device=\"cuda:2\"", "svdllm_device_info{device=\"cpu\"",
        "svdllm_device_memory_used_bytes{device=\"cuda:0\"} 32212254720\n",
        "svdllm_device_memory_used_bytes{device=\"cuda:1\"} 1073741824\n",
        "svdllm_device_memory_limit_bytes{device=\"cuda:0\"} 17179869184\n",
        "svdllm_device_utilization_ratio{device=\"cuda:0\"} 0.42"}) {
    EXPECT_THAT(text, HasSubstr(line));
  }
  for (const char* line : {"svdllm_device_memory_used_bytes{device=\"cuda:2\"",
                           "svdllm_device_memory_limit_bytes{device=\"cuda:2\"",
                           "svdllm_device_utilization_ratio{device=\"cuda:1\"",
                           "svdllm_device_memory_used_bytes{device=\"cpu\"",
                           "svdllm_device_memory_limit_bytes{device=\"cpu\""}) {
    EXPECT_THAT(text, Not(HasSubstr(line)));
  }
}

TEST(DeviceCollectorTest, MemoryInUseOfAWholeDeviceIsNotAPartitions) {
  const DeviceCollector collector(
      {{"cuda:0", "H100 MIG 1g.10gb", "13.0", "0000:3b:00.0", 10 * kGiB, 8 * kGiB}}, FAKE_NVML);
  EXPECT_THAT(Text(collector), Not(HasSubstr("svdllm_device_memory_used_bytes")));
  EXPECT_THAT(Text(collector), HasSubstr("svdllm_device_memory_limit_bytes{device=\"cuda:0\"} 8"));
}

TEST(DeviceCollectorTest, WithoutADriverOnlyTheDevicesAreNamed) {
  const DeviceCollector collector({{"cuda:0", "NVIDIA H100", "13.0", "0000:3b:00.0", kGiB, kGiB}},
                                  "libnot-there.so.1");
  EXPECT_THAT(Text(collector), HasSubstr("svdllm_device_info{device=\"cuda:0\""));
  EXPECT_THAT(Text(collector), Not(HasSubstr("svdllm_device_memory")));
}

TEST(DeviceCollectorTest, TheCpuNeedsNoLibrary) {
  ::testing::internal::CaptureStderr();
  const DeviceCollector collector({{"cpu", "a processor", "", "", kGiB, kGiB}},
                                  "libnot-there.so.1");
  EXPECT_THAT(Text(collector), HasSubstr("device=\"cpu\""));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace svdllm
