#include "server/leftovers.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;

TEST(LeftoversTest, OnlyWhatNoAttemptHoldsIsRemoved) {
  const testing::TempDir dir;
  SqliteStoreOptions options;
  options.path = dir.path() + "/jobs.db";
  const auto store = *OpenSqliteJobStore(options);
  const auto artifacts = *NewFileStore({{}, dir.path() + "/artifacts"});
  NewJob job;
  job.id = NewJobId();
  ASSERT_TRUE(store->Create(job, 10).ok());
  const Lease lease = (*store->Claim("w", 60000))->lease;

  const std::string work = dir.path() + "/work";
  const auto stage = [&](const std::string& uri, const std::string& id, int64_t token) {
    return *artifacts->Stage(uri, id + "." + std::to_string(token));
  };
  const std::string held = stage("a/b", lease.job_id, lease.token);
  const std::string lost = stage("a/c", lease.job_id, lease.token + 1);
  const std::string other = stage("deep/er/d", "anotherjob", 1);
  std::ofstream(other + "/model.safetensors") << "half";
  const std::string published = stage("p", "anotherjob", 2);
  std::ofstream(published + "/compression_manifest.json") << "{}";
  ASSERT_TRUE(artifacts->Commit(published, "p").ok());
  const std::string name = lease.job_id + ".";
  fs::create_directories(work + "/" + name + std::to_string(lease.token));
  fs::create_directories(work + "/" + name + std::to_string(lease.token - 1) + "/x");
  fs::create_directories(work + "/not ours");

  RemoveLeftovers(*store, *artifacts, work);
  EXPECT_TRUE(fs::exists(held));
  EXPECT_FALSE(fs::exists(lost));
  EXPECT_FALSE(fs::exists(other));
  EXPECT_TRUE(fs::exists(dir.path() + "/artifacts/p/compression_manifest.json"));
  EXPECT_TRUE(fs::exists(work + "/" + name + std::to_string(lease.token)));
  EXPECT_FALSE(fs::exists(work + "/" + name + std::to_string(lease.token - 1)));
  EXPECT_TRUE(fs::exists(work + "/not ours")) << "whatever it is";

  ASSERT_TRUE(store->Release(lease).ok());
  RemoveLeftovers(*store, *artifacts, work);
  EXPECT_FALSE(fs::exists(held));
}

}  // namespace
}  // namespace svdllm
