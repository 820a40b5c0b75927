// Which devices are used, how much of them, and what becomes of a worker whose device does not work
// any more. The CUDA module here is a stand-in: two devices that are the CPU.
#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>

#include "linalg/cuda/loader.h"
#include "server_fixture.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int64_t kGiB = int64_t{1} << 30;
// Enough for a few short windows of the tiny model and not for long ones.
constexpr int64_t kMemory = int64_t{1} << 20;

// Before anything looks for the module.
const int kWithFakeModule = setenv("SVDLLM_MODULE_DIR", FAKE_MODULES, 1);

std::vector<std::string> NamesOf(const Engine& engine) {
  std::vector<std::string> names;
  for (const DeviceInfo& device : engine.devices) names.push_back(device.name);
  return names;
}

TEST(DevicesTest, AreChosenByName) {
  EXPECT_THAT(NamesOf(*PipelineEngine({{"cpu"}})), ElementsAre("cpu"));
  const auto several = PipelineEngine({{"cuda:1", "cpu", "cuda:0"}});
  ASSERT_TRUE(several.ok()) << several.status();
  EXPECT_THAT(NamesOf(*several), ElementsAre("cuda:1", "cpu", "cuda:0"));
  EXPECT_EQ(several->device_note, "");
  const DeviceInfo& device = several->devices[2];
  EXPECT_EQ(device.description, "Pretended GPU, compute capability 9.0, driver 13.0");
  EXPECT_EQ(device.model, "Pretended GPU");
  EXPECT_EQ(device.compute_capability, "9.0");
  EXPECT_EQ(device.driver, "13.0");
  EXPECT_EQ(device.pci_bus_id, "0000:3b:00.0");
  EXPECT_EQ(device.memory_bytes, 80 * kGiB);
  EXPECT_EQ(device.memory_limit_bytes, 80 * kGiB - 5 * kGiB / 4);
  const DeviceInfo& cpu = several->devices[1];
  EXPECT_EQ(cpu.pci_bus_id, "");
  EXPECT_EQ(cpu.memory_limit_bytes, cpu.memory_bytes);
}

TEST(DevicesTest, AutoStaysWithTheCpuAndSaysWhy) {
  const auto any = PipelineEngine(DeviceSettings());
  ASSERT_TRUE(any.ok()) << any.status();
  EXPECT_THAT(NamesOf(*any), ElementsAre("cpu"));
  EXPECT_GT(any->devices[0].memory_bytes, 0);
  EXPECT_EQ(any->device_note, "it has to be asked for: --devices=cuda:0");
}

TEST(DevicesTest, WhatIsNotThereIsRefusedByName) {
  const auto expect = [](const std::vector<std::string>& names, const std::string& text) {
    const absl::Status status = PipelineEngine({names}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("--devices=" + text));
  };
  expect({}, ": names no device");
  for (const char* wrong : {"", "gpu", "cuda", "cuda:", "cuda:x", "cuda:1x", "cuda:-1"}) {
    expect({wrong}, std::string(wrong) + ": none of cpu, cuda:N");
  }
  expect({"cuda:2"}, "cuda:2: there are only 2");
  expect({"cuda:0", "cuda:4096"}, "cuda:4096: there are only 2");
  expect({"cuda:0", "cuda:1", "cuda:0"}, "cuda:0: is named twice");
  expect({"cpu", "cpu"}, "cpu: is named twice");
  expect({"auto", "cpu"}, "auto: none of cpu");
}

TEST(DevicesTest, LimitIsAtMostTheDevicesMemory) {
  const auto limited = PipelineEngine({{"cuda:0", "cuda:1"}, 60 * kGiB});
  EXPECT_EQ(limited->devices[0].memory_limit_bytes, 60 * kGiB);
  EXPECT_EQ(limited->devices[1].memory_limit_bytes, 40 * kGiB - 5 * kGiB / 4);
}

TEST(DevicesTest, LimitIsNotForTheCpuBesideCudaDevices) {
  const auto both = PipelineEngine({{"cuda:0", "cpu"}, kMemory});
  EXPECT_EQ(both->devices[0].memory_limit_bytes, kMemory);
  EXPECT_EQ(both->devices[1].memory_limit_bytes, both->devices[1].memory_bytes);
  const auto alone = PipelineEngine({{"cpu"}, kMemory});
  EXPECT_EQ(alone->devices[0].memory_limit_bytes, kMemory);
}

TEST(DevicesTest, TooOldOnesAreRefusedByName) {
  setenv("FAKE_CUDA_SECOND", "70", 1);
  const absl::Status status = PipelineEngine({{"cuda:0", "cuda:1"}}).status();
  EXPECT_EQ(status, absl::InvalidArgumentError("--devices=cuda:1: Smaller GPU has compute "
                                               "capability 7.0, at least 7.5 (Turing) is needed"));
  EXPECT_TRUE(PipelineEngine({{"cuda:0"}}).ok());
  EXPECT_TRUE(PipelineEngine(DeviceSettings()).ok());
  setenv("FAKE_CUDA_SECOND", "75", 1);
  EXPECT_TRUE(PipelineEngine({{"cuda:1"}}).ok());
  unsetenv("FAKE_CUDA_SECOND");
}

TEST(DevicesTest, ErrorOfTheModuleArrivesAsWhatItIs) {
  setenv("FAKE_CUDA_FAILS", "8 DEVICE_OUT_OF_MEMORY", 1);
  const absl::Status memory = NewCudaBackend(1).status();
  EXPECT_EQ(memory.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(ErrorReason(memory), kDeviceOutOfMemory);
  EXPECT_EQ(memory.message(), "CUDA: cuda:1: the device is lost");
  setenv("FAKE_CUDA_FAILS", "14", 1);
  EXPECT_EQ(NewCudaBackend().status(), absl::UnavailableError("CUDA: cuda:0: the device is lost"));
  unsetenv("FAKE_CUDA_FAILS");
}

class DeviceJobsTest : public ServerTest {
 protected:
  void SetUp() override {
    nvml_library_ = FAKE_NVML;
    ServerTest::SetUp();
    testing::WriteTinyCheckpoint(model_);  // 128 positions
    std::ofstream text(text_);
    for (int i = 0; i < 400; ++i) text << "Line " << i * i << " is not quite regular.\n";
  }
  void TearDown() override {
    unsetenv("FAKE_CUDA_FAILS");
    unsetenv("FAKE_CUDA_MEMORY");
    unsetenv("FAKE_CUDA_SECOND");
    ServerTest::TearDown();
  }
  void Use(const DeviceSettings& settings) {
    auto engine = PipelineEngine(settings);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
    StartServer();
  }
  v1::CompressModelRequest Windows(int64_t samples, int64_t length) const {
    return Compression(samples, length);
  }
};

TEST_F(DeviceJobsTest, ServerInfoAndMetricsTellOfThem) {
  Use({{"cuda:0", "cuda:1", "cpu"}, 16 * kGiB});
  v1::ServerInfo info;
  ASSERT_TRUE(
      Call(&v1::CompressionService::Stub::GetServerInfo, v1::GetServerInfoRequest(), info).ok());
  ASSERT_EQ(info.devices_size(), 3);
  EXPECT_EQ(info.devices(0).name(), "cuda:0");
  EXPECT_EQ(info.devices(0).driver(), "13.0");
  EXPECT_EQ(info.devices(0).compute_capability(), "9.0");
  EXPECT_EQ(info.devices(0).memory_bytes(), 80 * kGiB);
  EXPECT_EQ(info.devices(0).memory_limit_bytes(), 16 * kGiB);
  EXPECT_EQ(info.devices(1).compute_capability(), "8.6");
  EXPECT_EQ(info.devices(2).driver(), "");
  const std::string metrics = Http("/metrics");
  for (const char* line :
       {"svdllm_device_info{device=\"cuda:0\",driver=\"13.0\",model=\"Pretended GPU\"} 1",
        "svdllm_device_memory_used_bytes{device=\"cuda:0\"} 32212254720",
        "svdllm_device_memory_limit_bytes{device=\"cuda:0\"} 17179869184",
        "svdllm_device_utilization_ratio{device=\"cuda:0\"} 0.42",
        "svdllm_device_memory_used_bytes{device=\"cuda:1\"} 1073741824"}) {
    EXPECT_THAT(metrics, HasSubstr(line));
  }
}

TEST_F(DeviceJobsTest, RunOnTheFirstDeviceWithItsSettings) {
  Use({{"cuda:1"}, 0, true});
  StartWorker();
  const v1::Job job = AwaitEnd(Submit(Windows(4, 32)).name());
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED) << job.DebugString();
  EXPECT_STREQ(std::getenv("FAKE_CUDA_EXACT"), "1");
  EXPECT_TRUE(engine_.check_device().ok());
}

TEST_F(DeviceJobsTest, WhatCannotFitIsRefusedBeforeItStarts) {
  // The tightest device counts, whichever worker takes the job.
  v1::Job job;
  v1::CompressModelRequest small = Windows(4, 32), large = Windows(16, 128);
  small.set_validate_only(true);
  large.set_validate_only(true);
  Use({{"cuda:0"}, kGiB});
  ASSERT_TRUE(Compress(small, job).ok());
  const int64_t enough = job.plan().peak_device_bytes();
  ASSERT_TRUE(Compress(large, job).ok());
  EXPECT_GT(job.plan().peak_device_bytes(), enough);
  Use({{"cuda:0", "cpu"}, enough});
  EXPECT_TRUE(Compress(small, job).ok());
  const grpc::Status status = Compress(large, job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(status).info.reason(), "DEVICE_OUT_OF_MEMORY") << status.error_message();
  Use({{"cpu"}});
  ASSERT_TRUE(Compress(large, job).ok());
  EXPECT_EQ(job.plan().peak_device_bytes(), 0);
}

TEST_F(DeviceJobsTest, AnEvaluationThatCannotFitIsRefusedToo) {
  const auto request = [this](int batch_size) {
    v1::EvaluateRequest made = Evaluation();
    made.set_model(model_);
    made.clear_tasks();
    made.mutable_throughput()->add_batch_sizes(batch_size);
    made.set_validate_only(true);
    return made;
  };
  v1::Job job;
  Use({{"cuda:0"}, kGiB});
  ASSERT_TRUE(Evaluate(request(1), job).ok());
  const int64_t enough = job.evaluation_plan().peak_device_bytes();
  ASSERT_TRUE(Evaluate(request(256), job).ok());
  EXPECT_GT(job.evaluation_plan().peak_device_bytes(), enough);
  Use({{"cuda:0"}, enough});
  EXPECT_TRUE(Evaluate(request(1), job).ok());
  const grpc::Status status = Evaluate(request(256), job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(status).info.reason(), "DEVICE_OUT_OF_MEMORY") << status.error_message();
}

TEST_F(DeviceJobsTest, AfterAJobThatRanOutOfMemoryTheNextOneRunsInTheSameWorker) {
  constexpr int64_t kLimit = int64_t{64} << 20;
  // As where another program has come to the device: the plan does not know.
  setenv("FAKE_CUDA_TAKEN", std::to_string(kLimit - kMemory).c_str(), 1);
  Use({{"cuda:0"}, kLimit});
  StartWorker();
  const auto run = [this](int64_t windows, int64_t length) {
    v1::EvaluateRequest request = Evaluation();
    request.mutable_tasks(0)->set_limit(windows);
    request.mutable_tasks(0)->set_seq_len(length);
    v1::Job job;
    const grpc::Status status = Evaluate(request, job);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return AwaitEnd(job.name());
  };
  const v1::Job failed = run(16, 128);
  EXPECT_EQ(failed.state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(failed.error().reason(), "HOST_OUT_OF_MEMORY") << failed.DebugString();
  EXPECT_THAT(failed.error().message(), HasSubstr("the limit is"));
  const v1::Job next = run(1, 8);
  EXPECT_EQ(next.state(), v1::JOB_STATE_SUCCEEDED) << next.DebugString();
  unsetenv("FAKE_CUDA_TAKEN");
}

TEST_F(DeviceJobsTest, WorkerEndsWhereItsDeviceDoesNotAnswerAnyMore) {
  setenv("FAKE_CUDA_MEMORY", "64", 1);  // not enough for a single number
  Use({{"cuda:0"}});
  StartWorker();
  const std::string name = Submit(Windows(4, 32)).name();
  worker_thread_.join();  // ends by itself
  EXPECT_EQ(ended_.code(), absl::StatusCode::kResourceExhausted);
  worker_.reset();
  EXPECT_EQ(Get(name).state(), v1::JOB_STATE_QUEUED);
  unsetenv("FAKE_CUDA_MEMORY");
  Use({{"cuda:0"}});  // as a fresh process would
  StartWorker();
  const v1::Job job = AwaitEnd(name);
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  ASSERT_EQ(job.attempts_size(), 2);
  EXPECT_THAT(job.attempts(0).error().message(), HasSubstr("the device failed: "));
}

TEST_F(DeviceJobsTest, WorkerEndsWhereItsDeviceCannotBeOpened) {
  setenv("FAKE_CUDA_FAILS", "14", 1);
  Use({{"cuda:0"}});
  const std::string name = Submit(Windows(4, 32)).name();
  StartWorker();
  worker_thread_.join();  // ends by itself
  EXPECT_EQ(ended_, absl::UnavailableError("CUDA: cuda:0: the device is lost"));
  worker_.reset();
  EXPECT_EQ(Get(name).state(), v1::JOB_STATE_QUEUED);
  unsetenv("FAKE_CUDA_FAILS");
  StartWorker();
  const v1::Job job = AwaitEnd(name);
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.attempt(), 1) << "it was not touched before";
}

TEST_F(DeviceJobsTest, PlansCountOnProductsOfBf16WhereEveryDeviceHasThem) {
  testing::TinyCheckpointOptions bf16;
  bf16.dtype = DType::kBF16;
  testing::WriteTinyCheckpoint(model_, bf16);
  v1::CompressModelRequest dry = Windows(4, 32);
  dry.set_validate_only(true);
  const auto peak = [&](const std::vector<std::string>& names) {
    Use({names});
    v1::Job job;
    EXPECT_TRUE(Compress(dry, job).ok());
    return job.plan().peak_device_bytes();
  };
  setenv("FAKE_CUDA_SECOND", "75", 1);
  const int64_t with = peak({"cuda:0"});
  const int64_t without = peak({"cuda:1"});
  EXPECT_LT(with, without);
  EXPECT_EQ(peak({"cuda:1", "cuda:0"}), without);
}

}  // namespace
}  // namespace svdllm
