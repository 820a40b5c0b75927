// A job store that is damaged or gone under the real server: refused, restored, checked.
#include <map>
#include <random>

#include "server_fault_fixture.h"
#include "server_process.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

class StoreFaultTest : public ServerFaultTest {
 protected:
  // A server that has backed its store up, with one job in it, and was then killed.
  std::string LeaveABackup() {
    Start({"--role=api", "--backup_minutes=0.005"});
    const std::string name = Submit(1, 2);
    const auto second = fs::last_write_time(path_);
    for (int i = 0; i < 1000; ++i) {
      std::error_code error;
      if (fs::last_write_time(backup_, error) > second && !error && i > 100) break;
      usleep(10'000);
    }
    server_->Signal(SIGTERM);
    EXPECT_EQ(server_->Wait(), 0);
    server_.reset();
    return name;
  }
  void Damage() const {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(4096);
    std::mt19937 random(7);
    for (int i = 0; i < 3 * 4096; ++i) file.put(static_cast<char>(random()));
  }
  std::pair<int, std::string> Check() {
    return RunToEnd({"--data_dir=" + directory_ + "/data", "--check_store"});
  }

  std::string path_, backup_;
  void SetUp() override {
    ServerFaultTest::SetUp();
    path_ = directory_ + "/data/jobs.db";
    backup_ = path_ + ".backup";
  }
};

TEST_F(StoreFaultTest, DamagedStoreIsRefusedWithTheCommandThatRestoresIt) {
  const std::string name = LeaveABackup();
  EXPECT_EQ(Check().first, 0);
  EXPECT_THAT(Check().second, HasSubstr("jobs: 1 (1 QUEUED)"));
  Damage();
  const auto checked = Check();
  EXPECT_EQ(checked.first, 1);
  EXPECT_THAT(checked.second, HasSubstr("jobs.db is damaged"));
  EXPECT_THAT(checked.second, HasSubstr("jobs.db.backup: sound"));

  const auto refused = RunToEnd(Arguments({"--role=api"}));
  EXPECT_EQ(refused.first, 1);
  EXPECT_THAT(refused.second, HasSubstr("svdllm-server --data_dir=" + directory_ +
                                        "/data --restore_backup puts it in place"));

  Start({"--restore_backup"});
  EXPECT_EQ(AwaitEnd(name).state(), v1::JOB_STATE_SUCCEEDED) << "it waited, and runs";
  EXPECT_THAT(server_->Log(), HasSubstr("the job store was restored from its backup"));
  int kept = 0;
  for (const auto& entry : fs::directory_iterator(directory_ + "/data")) {
    if (entry.path().filename().string().starts_with("jobs.db.damaged-")) ++kept;
  }
  EXPECT_GE(kept, 1);

  Start({"--restore_backup"});  // sound by now: nothing is taken back
  EXPECT_EQ(Get(name).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(StoreFaultTest, StoreThatIsGoneIsNotBegunAnewBesideItsBackup) {
  const std::string name = LeaveABackup();
  fs::remove(path_);
  const auto refused = RunToEnd(Arguments({"--role=api"}));
  EXPECT_EQ(refused.first, 1);
  EXPECT_THAT(refused.second, HasSubstr("jobs.db is gone"));
  std::ofstream(path_).close();
  EXPECT_THAT(RunToEnd(Arguments({"--role=api"})).second, HasSubstr("jobs.db is empty"));
  Start({"--restore_backup"});
  EXPECT_EQ(AwaitEnd(name).state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(StoreFaultTest, DamageWithoutABackupIsRefusedToo) {
  Start({"--role=api", "--backup_minutes=0"});
  Submit(1, 2);
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0);
  EXPECT_FALSE(fs::exists(backup_)) << "0 minutes: never";
  Damage();
  for (const char* more : {"--role=api", "--restore_backup"}) {
    const auto refused = RunToEnd(Arguments({more}));
    EXPECT_EQ(refused.first, 1);
    EXPECT_THAT(refused.second, HasSubstr("there is no backup"));
    EXPECT_THAT(refused.second, Not(HasSubstr("serving")));
  }
}

// What a newer version may leave to this one, and what damage may.
TEST_F(StoreFaultTest, JobsThatAreNotUnderstoodAreShownAndLeftAlone) {
  Start({"--role=api"});
  const std::map<std::string, std::string> changes = {
      {Submit(1, 2), "request = x'ffffff'"},                           // no message
      {Submit(1, 2), "request = CAST(request || x'f80701' AS BLOB)"},  // field 127
      {Submit(1, 2),
       "request = CAST(request || x'5863' AS BLOB)"},  // another output format: field 11 is 99
      {Submit(1, 2), "kind = 9"},
      {Submit(1, 2), "state = 7"}};
  const std::string good = Submit(1, 2);
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait(), 0);
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open(path_.c_str(), &db), SQLITE_OK);
  for (const auto& [name, change] : changes) {
    const std::string sql = "UPDATE jobs SET " + change + " WHERE id = '" + name.substr(5) + "'";
    ASSERT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
  }
  sqlite3_close(db);

  Start();
  EXPECT_EQ(AwaitEnd(good).state(), v1::JOB_STATE_SUCCEEDED) << "it waited behind them";
  grpc::ClientContext context;
  v1::ListJobsResponse list;
  ASSERT_TRUE(stub_->ListJobs(&context, {}, &list).ok());
  EXPECT_THAT(list.jobs(), SizeIs(6));
  for (const auto& [name, change] : changes) {
    const v1::Job job = Get(name);
    EXPECT_EQ(job.error().reason(), "REQUEST_NOT_UNDERSTOOD") << change;
    EXPECT_EQ(job.attempt(), 0) << change;
    EXPECT_EQ(job.queue_position(), 0) << change;
  }
  EXPECT_THAT(server_->Log(), HasSubstr("a job is not understood and left alone"));

  // Only who asks for it ends one, and what state 7 means nobody here knows.
  for (const auto& [name, change] : changes) {
    v1::CancelJobRequest request;
    request.set_name(name);
    v1::DeleteJobRequest deletion;
    deletion.set_name(name);
    grpc::ClientContext cancel_context, delete_context;
    v1::Job job;
    google::protobuf::Empty nothing;
    const bool strange = change.starts_with("state");
    EXPECT_EQ(stub_->CancelJob(&cancel_context, request, &job).ok(), !strange) << change;
    EXPECT_EQ(stub_->DeleteJob(&delete_context, deletion, &nothing).ok(), !strange) << change;
  }
}

}  // namespace
}  // namespace svdllm
