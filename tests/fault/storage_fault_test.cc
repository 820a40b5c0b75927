// What is left where a publisher dies, is late, or cannot write.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <functional>

#include "base/files.h"
#include "formats/safetensors.h"
#include "storage/artifact_store.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using testing::FileExists;
using testing::ListDir;
using testing::TempDir;

constexpr char kManifest[] = "compression_manifest.json";

// Runs body in a process of its own; returns its wait status.
int InChild(const std::function<void()>& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    body();
    _exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  return status;
}

class StorageFault : public ::testing::Test {
 protected:
  void SetUp() override { store_ = Open(); }
  std::unique_ptr<ArtifactStore> Open() const {
    auto store = NewFileStore({.model_roots = {}, .artifact_root = out_});
    EXPECT_OK(store);
    return *std::move(store);
  }
  static void Fill(const std::string& staging, const std::string& manifest) {
    ASSERT_OK(WriteFileAtomic(staging + "/weights", "w"));
    ASSERT_OK(WriteFileAtomic(staging + "/" + kManifest, manifest));
  }

  TempDir dir_;
  std::string out_ = dir_.File("artifacts");
  std::unique_ptr<ArtifactStore> store_;
};

TEST_F(StorageFault, KilledBeforeCommitLeavesNothingVisibleAndTheNextAttemptCleansUp) {
  const int status = InChild([this] {
    const auto staging = store_->Stage("x", "job.1");
    ASSERT_OK(staging);
    Fill(*staging, "m");
    kill(getpid(), SIGKILL);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_FALSE(FileExists(out_ + "/x"));
  EXPECT_EQ(ListDir(out_), ".staging-x-job.1");

  const auto store = Open();  // as a restarted worker
  const auto staging = store->Stage("x", "job.2");
  ASSERT_OK(staging);
  EXPECT_EQ(ListDir(out_), ".staging-x-job.2");
  EXPECT_EQ(ListDir(*staging), "");
  Fill(*staging, "m");
  ASSERT_OK(store->Commit(*staging, "x"));
  EXPECT_EQ(ListDir(out_), "x");
}

TEST_F(StorageFault, TheSameTokenStartsEmpty) {
  const auto first = store_->Stage("x", "job.1");
  ASSERT_OK(first);
  Fill(*first, "m");
  const auto second = store_->Stage("x", "job.1");
  ASSERT_OK(second);
  EXPECT_EQ(*first, *second);
  EXPECT_EQ(ListDir(*second), "");
}

TEST_F(StorageFault, StagingOfOtherOwnersAndOutputsStays) {
  ASSERT_OK(store_->Stage("x", "other.1"));
  ASSERT_OK(store_->Stage("y", "job.1"));
  ASSERT_OK(store_->Stage("x", "job2.1"));
  ASSERT_OK(store_->Stage("x", "job.2"));
  EXPECT_EQ(ListDir(out_),
            ".staging-x-job.2 .staging-x-job2.1 .staging-x-other.1 .staging-y-job.1");
}

// An attempt that lost its lease wakes up after the next one has begun.
TEST_F(StorageFault, ALateAttemptPublishesNothing) {
  const auto late = store_->Stage("x", "job.1");
  ASSERT_OK(late);
  Fill(*late, "late");
  const auto next = store_->Stage("x", "job.2");
  ASSERT_OK(next);
  EXPECT_FALSE(WriteFileAtomic(*late + "/more", "w").ok());
  EXPECT_STATUS(store_->Commit(*late, "x"), kFailedPrecondition, "", {*late});
  Fill(*next, "next");
  ASSERT_OK(store_->Commit(*next, "x"));
  EXPECT_EQ(*ReadFile(out_ + "/x/" + kManifest), "next");
}

TEST_F(StorageFault, ThePublicationOfTheSameArtifactTwiceIsHarmless) {
  const auto a = store_->Stage("x", "a.1"), b = store_->Stage("x", "b.1");
  ASSERT_OK(a);
  ASSERT_OK(b);
  Fill(*a, "same");
  Fill(*b, "same");
  ASSERT_OK(store_->Commit(*a, "x"));
  ASSERT_OK(store_->Commit(*b, "x"));
  EXPECT_EQ(ListDir(out_), "x");
}

TEST_F(StorageFault, AnotherArtifactThatCameFirstStays) {
  const auto a = store_->Stage("x", "a.1"), b = store_->Stage("x", "b.1");
  ASSERT_OK(a);
  ASSERT_OK(b);
  Fill(*a, "first");
  Fill(*b, "second");
  ASSERT_OK(store_->Commit(*a, "x"));
  EXPECT_STATUS(store_->Commit(*b, "x"), kAlreadyExists, kOutputExists, {"x"});
  EXPECT_EQ(*ReadFile(out_ + "/x/" + kManifest), "first");
  store_->Discard(*b);
  EXPECT_EQ(ListDir(out_), "x");
}

TEST_F(StorageFault, FilesThatAppearAtTheTargetMeanwhileStay) {
  const auto staging = store_->Stage("x", "job.1");
  ASSERT_OK(staging);
  Fill(*staging, "m");
  dir_.Write("artifacts/x/user.txt", "mine");
  EXPECT_STATUS(store_->Commit(*staging, "x"), kAlreadyExists, kOutputExists, {"x"});
  EXPECT_EQ(ListDir(out_ + "/x"), "user.txt");
}

TEST_F(StorageFault, AFileWhereADirectoryShouldBe) {
  dir_.Write("artifacts/file", "mine");
  EXPECT_STATUS(store_->Stage("file/x", "job.1"), kInvalidArgument, kOutputInvalid, {"file/x"});
  EXPECT_EQ(*ReadFile(out_ + "/file"), "mine");
}

// The staging directory's name is longer than the artifact's, and there must be one all the same.
TEST_F(StorageFault, ANameThatLeavesNoRoomForAToken) {
  const std::string name(250, 'n');
  ASSERT_OK(store_->Stage(name, "job.1"));
  const auto staging = store_->Stage(name, "job.2");
  ASSERT_OK(staging);
  EXPECT_EQ(out_ + "/" + ListDir(out_), *staging) << "the earlier attempt's is gone";
  Fill(*staging, "m");
  ASSERT_OK(store_->Commit(*staging, name));
  EXPECT_EQ(ListDir(out_), name);
}

TEST_F(StorageFault, AnUnwritableRootIsNamed) {
  fs::permissions(dir_.path(), fs::perms(0755));
  fs::permissions(out_, fs::perms(0555));
  const int status = InChild([this] {
    // The superuser may write anywhere.
    if (geteuid() == 0) {
      ASSERT_EQ(setuid(65534), 0);
    }
    EXPECT_STATUS(store_->Stage("x", "job.1"), kPermissionDenied, kOutputInvalid,
                  {"cannot be written", out_});
    EXPECT_STATUS(store_->Stage("a/b", "job.1"), kPermissionDenied, kOutputInvalid,
                  {"cannot be written", out_});
  });
  fs::permissions(out_, fs::perms(0755));
  EXPECT_EQ(status, 0);
  EXPECT_EQ(ListDir(out_), "");
}

// A limit on file sizes stands for a disk without space: both are seen where the file is created.
TEST_F(StorageFault, ShardsThatDoNotFitAreRefusedBeforeAnythingIsComputed) {
  const int status = InChild([this] {
    const auto staging = store_->Stage("x", "job.1");
    ASSERT_OK(staging);
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit = {1 << 20, 1 << 20};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    EXPECT_OK(SafetensorsWriter::Create(*staging + "/small", {{"w", DType::kF32, {1000}}}));
    EXPECT_STATUS(SafetensorsWriter::Create(*staging + "/large", {{"w", DType::kF32, {1 << 20}}}),
                  kResourceExhausted, kScratchFull, {"large"});
    EXPECT_EQ(ListDir(*staging), "");
    store_->Discard(*staging);
  });
  EXPECT_EQ(status, 0);
  EXPECT_EQ(ListDir(out_), "");
}

}  // namespace
}  // namespace svdllm
