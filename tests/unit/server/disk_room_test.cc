// Room for a job, and what running ones have still to write.
#include "server/disk_room.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "pipeline/plan.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;

TEST(DiskRoomTest, NeedsAreWhatAPlanWrites) {
  CompressPlan plan;
  plan.artifacts.resize(2);
  plan.artifacts[0].weight_bytes = 700;
  plan.artifacts[1].weight_bytes = 300;
  plan.scratch_bytes = 1000 + 2 * kArtifactSideBytes;
  EXPECT_EQ(NeedsOf(plan).output_bytes, 1000);
  EXPECT_EQ(NeedsOf(plan).work_bytes, 0);
  plan.scratch_bytes += 50;
  EXPECT_EQ(NeedsOf(plan).work_bytes, 50);
}

TEST(DiskRoomTest, OfTwoAttemptsTheSecondSeesWhatTheFirstHasYetToWrite) {
  const testing::TempDir dir;
  const JobVolumes volumes{dir.File("work"), dir.File("artifacts")};
  fs::create_directories(volumes.work_root + "/a.7");
  fs::create_directories(volumes.work_root + "/b.8");
  fs::create_directories(volumes.artifact_root);
  const auto free = static_cast<int64_t>(fs::space(dir.path()).available);
  const DiskNeeds most{free / 2, free / 4};
  ASSERT_OK(ReserveRoom(most, volumes, "a.7"));
  EXPECT_STATUS(ReserveRoom(most, volumes, "b.8"), kResourceExhausted, kScratchFull,
                {"other jobs'", volumes.artifact_root});
  ASSERT_OK(ReserveRoom(most, volumes, "a.7"));  // the one that came first is not turned out
  fs::remove_all(volumes.work_root + "/a.7");
  ASSERT_OK(ReserveRoom(most, volumes, "b.8"));
}

TEST(DiskRoomTest, WhatIsWrittenIsReservedNoMore) {
  const testing::TempDir dir;
  const JobVolumes volumes{dir.File("work"), dir.File("artifacts")};
  fs::create_directories(volumes.work_root + "/b.8");
  const auto free = static_cast<int64_t>(fs::space(dir.path()).available);
  // The first has reserved nearly all there is, and has written that: free says so already.
  const std::string reserved = std::to_string(1000) + " " + std::to_string(free);
  dir.Write("work/a.7/reserved", reserved);
  EXPECT_FALSE(ReserveRoom({0, free / 2}, volumes, "b.8").ok());
  const std::string staged = dir.Write("artifacts/deep/.staging-x-a.7/model.safetensors", "w");
  fs::resize_file(staged, static_cast<uintmax_t>(free));  // without blocks of its own
  ASSERT_OK(ReserveRoom({0, free / 2}, volumes, "b.8"));
}

}  // namespace
}  // namespace svdllm
