// What is SQLite's own: files, versions, full disks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "queue/job_store.h"
#include "queue/store_file.h"

namespace svdllm {
namespace {

using ::testing::HasSubstr;

class SqliteStoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = ::testing::TempDir() + "sqlite_store_" + NewJobId();
    std::filesystem::create_directories(directory_);
    options_.path = directory_ + "/jobs.db";
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  void Sql(const char* sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(options_.path.c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
    sqlite3_close(db);
  }
  static NewJob Make() {
    NewJob job;
    job.id = NewJobId();
    job.request = std::string(20000, 'x');
    return job;
  }

  std::string directory_;
  SqliteStoreOptions options_;
};

TEST_F(SqliteStoreTest, RefusesAFileOfANewerVersion) {
  ASSERT_TRUE(OpenSqliteJobStore(options_).ok());
  Sql("PRAGMA user_version = 99");
  const absl::Status status = OpenSqliteJobStore(options_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), HasSubstr("99"));
}

// tests/fixtures has one that such a version wrote.
TEST_F(SqliteStoreTest, UpgradesAFileOfVersionOne) {
  const NewJob waiting = Make();
  {
    auto store = OpenSqliteJobStore(options_);
    ASSERT_TRUE((*store)->Create(waiting, 10).ok());
  }
  Sql("DROP TABLE outputs; DROP TABLE timings; ALTER TABLE jobs DROP COLUMN used_ms;"
      "ALTER TABLE jobs DROP COLUMN attempt_ms; DROP INDEX jobs_by_owner;"
      "DROP INDEX jobs_by_expiry; DROP INDEX jobs_by_end; ALTER TABLE jobs DROP COLUMN expired_ms;"
      "ALTER TABLE jobs DROP COLUMN owner; ALTER TABLE jobs DROP COLUMN ttl_ms; DELETE FROM meta "
      "WHERE name = 'boot';"
      "PRAGMA user_version = 1");
  auto store = OpenSqliteJobStore(options_);
  ASSERT_TRUE(store.ok()) << store.status();
  const auto earlier = CheckStoreFile(options_.path + ".schema-1", /*thorough=*/true);
  ASSERT_TRUE(earlier.ok()) << earlier.status() << ": the way back to the version before";
  EXPECT_EQ(earlier->schema, 1);
  EXPECT_EQ(earlier->jobs.at(JobState::kQueued), 1);
  EXPECT_TRUE((*store)->CheckOutputs({"file:///o"}).ok());
  EXPECT_TRUE((*store)->Timings({"x"})->empty());
  EXPECT_EQ((*store)->Get(waiting.id)->state, JobState::kQueued);
  NewJob job = Make();
  job.outputs = {"file:///o"};
  EXPECT_TRUE((*store)->Create(job, 10).ok());
  EXPECT_FALSE((*store)->CheckOutputs({"file:///o"}).ok());
  EXPECT_TRUE(OpenSqliteJobStore(options_).ok()) << "once more, with nothing to do";
}

TEST_F(SqliteStoreTest, RefusesAFileThatIsNoDatabase) {
  std::ofstream(options_.path) << std::string(5000, 'j');
  const absl::Status status = OpenSqliteJobStore(options_).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ErrorReason(status), kStoreUnavailable);
}

TEST_F(SqliteStoreTest, NamesAPathThatCannotBeOpened) {
  options_.path = directory_ + "/absent/jobs.db";
  EXPECT_THAT(std::string(OpenSqliteJobStore(options_).status().message()),
              HasSubstr("absent/jobs.db"));
}

TEST_F(SqliteStoreTest, LockedFileIsUnavailableForWritesAndStillRead) {
  options_.busy_timeout_ms = 50;
  auto store = OpenSqliteJobStore(options_);
  ASSERT_TRUE(store.ok());
  const NewJob job = Make();
  ASSERT_TRUE((*store)->Create(job, 10).ok());
  sqlite3* other = nullptr;
  ASSERT_EQ(sqlite3_open(options_.path.c_str(), &other), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  const absl::Status refused = (*store)->Create(Make(), 10).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ErrorReason(refused), kStoreUnavailable);
  EXPECT_EQ((*store)->CheckWritable().code(), absl::StatusCode::kUnavailable);
  EXPECT_TRUE((*store)->Get(job.id).ok());
  sqlite3_close(other);
  EXPECT_TRUE((*store)->Create(Make(), 10).ok());
}

// There are thousands of forms of a list's filters, and a statement takes kilobytes.
TEST_F(SqliteStoreTest, ListsOfManyFormsTakeNoMemory) {
  auto store = OpenSqliteJobStore(options_);
  ASSERT_TRUE(store.ok());
  const auto list_all = [&](int most_labels) {
    for (int states = 0; states < 64; ++states) {
      ListQuery query;
      for (int i = 0; i < 6; ++i) {
        if ((states >> i & 1) != 0) query.states.push_back(static_cast<JobState>(i + 1));
      }
      for (int labels = 0; labels < most_labels; ++labels) {
        query.labels["k" + std::to_string(labels)] = "v";
        ASSERT_TRUE((*store)->List(query).ok());
      }
    }
  };
  list_all(1);
  const int64_t before = sqlite3_memory_used();
  list_all(16);
  EXPECT_LT(sqlite3_memory_used() - before, 1 << 20);
}

TEST_F(SqliteStoreTest, JobIdsSortByTimeAndDiffer) {
  const std::string a = NewJobId();
  const std::string b = NewJobId();
  EXPECT_EQ(a.size(), 21u);
  EXPECT_NE(a, b);
  EXPECT_LE(a.substr(0, 9), b.substr(0, 9));
}

}  // namespace
}  // namespace svdllm
