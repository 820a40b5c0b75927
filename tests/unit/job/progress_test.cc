#include "job/progress.h"

#include <gtest/gtest.h>

#include "linalg/counting/backend.h"

namespace svdllm {
namespace {

TEST(ProgressTest, DeviceMemoryIsThatOfTheJobAlone) {
  ProgressEvent last;
  RunHooks hooks;
  hooks.on_progress = [&last](const ProgressEvent& progress) { last = progress; };
  const std::unique_ptr<Backend> backend = NewCountingBackend({});
  const int64_t idle = backend->Memory().now;
  // An earlier job's.
  { ASSERT_TRUE(backend->New(1000, 1000, DType::kF64).ok()); }
  Progress progress(hooks, 1, 2, backend.get());
  EXPECT_EQ(progress.PeakDeviceBytes(), idle);
  { ASSERT_TRUE(backend->New(500, 1000, DType::kF64).ok()); }
  ASSERT_TRUE(progress.Step(0.5).ok());
  EXPECT_GE(last.peak_device_bytes, idle + 4'000'000);
  EXPECT_LT(last.peak_device_bytes, idle + 8'000'000);
  // What is measured within the job with a peak of its own lowers nothing.
  backend->ResetPeak();
  ASSERT_TRUE(progress.Step(0.5).ok());
  EXPECT_GE(last.peak_device_bytes, idle + 4'000'000);
  EXPECT_EQ(progress.PeakDeviceBytes(), last.peak_device_bytes);
}

TEST(ProgressTest, WhatIsDoneHasNoTimeLeft) {
  ProgressEvent last;
  RunHooks hooks;
  hooks.on_progress = [&last](const ProgressEvent& progress) { last = progress; };
  Progress progress(hooks, 100, 2);
  progress.Enter("publish");
  ASSERT_TRUE(progress.Step(40, "model.layers.0.mlp.up_proj").ok());
  EXPECT_NEAR(last.percent, 40, 1e-9);
  EXPECT_GE(last.eta_seconds, 0);
  progress.Done();
  EXPECT_EQ(last.percent, 100);
  EXPECT_LT(last.eta_seconds, 0);
  EXPECT_EQ(last.stage, "publish");
  EXPECT_EQ(last.module, "");
}

TEST(ProgressTest, WhereMemoryIsTheHostsThereIsNoneOfADevice) {
  ProgressEvent last;
  RunHooks hooks;
  hooks.on_progress = [&last](const ProgressEvent& progress) { last = progress; };
  const std::unique_ptr<Backend> backend = NewCpuBackend(1);
  Progress progress(hooks, 1, 2, backend.get());
  ASSERT_TRUE(backend->New(100, 100, DType::kF64).ok());
  ASSERT_TRUE(progress.Step(1).ok());
  EXPECT_EQ(last.peak_device_bytes, 0);
  EXPECT_GT(last.peak_host_bytes, 0);
  EXPECT_EQ(progress.PeakDeviceBytes(), 0);
}

}  // namespace
}  // namespace svdllm
