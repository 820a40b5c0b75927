// The store's file as a whole: looked through, copied, restored.
#include "queue/store_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "base/files.h"
#include "queue/job_store.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class StoreFileTest : public ::testing::Test {
 protected:
  std::unique_ptr<JobStore> Open() const {
    SqliteStoreOptions options;
    options.path = path_;
    auto store = OpenSqliteJobStore(options);
    EXPECT_TRUE(store.ok()) << store.status();
    return *std::move(store);
  }
  static std::string Add(JobStore& store) {
    NewJob job;
    job.id = NewJobId();
    job.request = std::string(3000, 'r');
    EXPECT_TRUE(store.Create(job, 1 << 30).ok());
    return job.id;
  }
  // The store's bytes with one page of rubbish.
  static void Damage(const std::string& path, int page) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    std::mt19937 random(static_cast<unsigned>(page));
    file.seekp(page * 4096);
    for (int i = 0; i < 4096; ++i) file.put(static_cast<char>(random()));
  }
  int64_t Queued(const std::string& path) const {
    const auto found = CheckStoreFile(path, /*thorough=*/true);
    EXPECT_TRUE(found.ok()) << found.status();
    return found.ok() && found->jobs.contains(JobState::kQueued) ? found->jobs.at(JobState::kQueued)
                                                                 : 0;
  }

  testing::TempDir dir_;
  std::string path_ = dir_.File("jobs.db"), copy_ = dir_.File("jobs.db.backup");
};

TEST_F(StoreFileTest, SaysWhatAStoreHolds) {
  EXPECT_TRUE(absl::IsNotFound(CheckStoreFile(path_, false).status()));
  EXPECT_FALSE(fs::exists(path_)) << "looking makes nothing";
  std::ofstream(path_).close();
  EXPECT_EQ(CheckStoreFile(path_, false)->schema, 0);
  const auto store = Open();
  Add(*store);
  Add(*store);
  ASSERT_TRUE(store->Cancel(Add(*store)).ok());
  const auto found = CheckStoreFile(path_, true);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_GE(found->schema, 3);
  EXPECT_TRUE(found->is_known);
  EXPECT_GT(found->bytes, 9000) << "what stands only in the log is counted";
  EXPECT_EQ(found->jobs.at(JobState::kQueued), 2);
  EXPECT_EQ(found->jobs.at(JobState::kCancelled), 1);
}

TEST_F(StoreFileTest, DamageIsNoticedAndChangedNothing) {
  {
    const auto store = Open();
    for (int i = 0; i < 40; ++i) Add(*store);
  }
  const std::string sound = *ReadFile(path_);
  const auto pages = static_cast<int>(sound.size() / 4096);
  ASSERT_GT(pages, 20);
  int noticed = 0;
  for (int page = 0; page < pages; ++page) {
    std::ofstream(path_, std::ios::binary) << sound;
    Damage(path_, page);
    const std::string damaged = *ReadFile(path_);
    const absl::Status status = CheckStoreFile(path_, false).status();
    // A page of rubbish in the middle of a long value is another value.
    if (!status.ok()) {
      ++noticed;
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
    }
    EXPECT_EQ(*ReadFile(path_), damaged);
  }
  EXPECT_GE(noticed, pages / 2);
}

TEST_F(StoreFileTest, ACopyIsOfOneMomentWhileOthersWrite) {
  const auto store = Open();
  std::atomic<bool> done{false};
  std::atomic<int> added{0};
  std::thread writer([&] {
    while (!done) {
      Add(*store);
      ++added;
    }
  });
  for (int i = 0; i < 5; ++i) {
    const int before = added;
    ASSERT_TRUE(BackUpStore(path_, copy_).ok());
    const int after = added + 1;
    EXPECT_GE(Queued(copy_), before);
    EXPECT_LE(Queued(copy_), after);
    EXPECT_EQ(testing::ListDir(dir_.path()), "jobs.db jobs.db-shm jobs.db-wal jobs.db.backup");
  }
  done = true;
  writer.join();
}

TEST_F(StoreFileTest, ADamagedStoreNeverReplacesASoundCopy) {
  {
    const auto store = Open();
    for (int i = 0; i < 20; ++i) Add(*store);
    ASSERT_TRUE(BackUpStore(path_, copy_).ok());
  }
  const std::string sound = *ReadFile(copy_);
  Damage(path_, 2);
  ASSERT_FALSE(CheckStoreFile(path_, false).ok());
  EXPECT_TRUE(absl::IsDataLoss(BackUpStore(path_, copy_)));
  EXPECT_EQ(*ReadFile(copy_), sound);
  EXPECT_THAT(testing::ListDir(dir_.path()), Not(HasSubstr("tmp"))) << "no half copy stays";
}

TEST_F(StoreFileTest, ARestoredStoreIsTheCopyAndWhatWasThereStays) {
  int64_t token = 0;
  {
    const auto store = Open();
    Add(*store);
    ASSERT_TRUE(BackUpStore(path_, copy_).ok());
    Add(*store);  // stands in the log only
    token = (*store->Claim("w", 60000))->lease.token;
    // As a server that was killed leaves it.
    fs::copy_file(path_, dir_.File("killed"));
    fs::copy_file(path_ + "-wal", dir_.File("killed-wal"));
  }
  fs::rename(dir_.File("killed"), path_);
  fs::rename(dir_.File("killed-wal"), path_ + "-wal");
  Damage(path_, 0);
  const auto kept = RestoreStore(copy_, path_);
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_THAT(*kept, StartsWith(path_ + ".damaged-20"));
  EXPECT_TRUE(fs::exists(*kept));
  EXPECT_TRUE(fs::exists(*kept + "-wal")) << "who repairs by hand needs the log";
  EXPECT_TRUE(fs::exists(copy_));
  EXPECT_EQ(Queued(path_), 1) << "the log of what was there is not played into the copy";
  const auto store = Open();
  EXPECT_GT((*store->Claim("w", 60000))->lease.token, token + 1000)
      << "an attempt that the copy does not know may still write under its token";
}

TEST_F(StoreFileTest, NothingIsRestoredFromWhatIsNoStore) {
  std::ofstream(path_) << "mine";
  std::ofstream(copy_) << std::string(9000, 'x');
  EXPECT_TRUE(absl::IsDataLoss(RestoreStore(copy_, path_).status()));
  EXPECT_EQ(*ReadFile(path_), "mine");
}

}  // namespace
}  // namespace svdllm
