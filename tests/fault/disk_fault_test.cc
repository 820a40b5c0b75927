// A disk that is full or fails while a job runs, or while one is submitted.
#include <cerrno>

#include "server_fault_fixture.h"
#include "server_process.h"

namespace svdllm {
namespace {

using ::testing::HasSubstr;

class DiskFaultTest : public ServerFaultTest {
 protected:
  // The environment of a program for which writes to such files fail while Fail() holds.
  std::vector<std::string> Failing(const std::string& part, int error) const {
    return {std::string("LD_PRELOAD=") + FAILING_DISK_LIBRARY, "FAILING_DISK=" + part,
            "FAILING_DISK_ERRNO=" + std::to_string(error), "FAILING_DISK_WHEN=" + switch_path()};
  }
  std::string switch_path() const { return directory_ + "/failing"; }
  void Fail() { std::ofstream(switch_path()).close(); }
  void Heal() { std::filesystem::remove(switch_path()); }
  // The pretended pipeline leaves what it staged, unlike the real one (seam_fault_test.cc).
  void ExpectNothingPublished() {
    for (const auto& entry : std::filesystem::directory_iterator(directory_ + "/data/artifacts")) {
      EXPECT_THAT(entry.path().filename().string(), ::testing::StartsWith(".staging-"));
    }
  }
};

TEST_F(DiskFaultTest, AJobFailsWithTheReasonAndTheServerGoesOn) {
  Start({"--role=api"});
  for (const auto& [error, reason] :
       {std::pair{ENOSPC, "SCRATCH_FULL"}, std::pair{EIO, "ARTIFACT_STORE_UNAVAILABLE"}}) {
    testing::ServerProcess worker(FAKE_SERVER, Arguments({"--role=worker"}),
                                  directory_ + "/worker_log",
                                  Failing("compression_manifest.json", error));
    Fail();
    const v1::Job job = AwaitEnd(Submit(1, 2));
    EXPECT_EQ(job.state(), v1::JOB_STATE_FAILED);
    EXPECT_THAT(job.error().reason() + ": " + job.error().message(), HasSubstr(reason));
    // A disk that is full is as full a second later; one that fails may be a network's.
    EXPECT_EQ(job.attempts_size(), error == ENOSPC ? 1 : 3);
    ExpectNothingPublished();
    EXPECT_THAT(Http("/readyz"), HasSubstr("200"));
    Heal();
    EXPECT_EQ(AwaitEnd(Submit(1, 2)).state(), v1::JOB_STATE_SUCCEEDED);
    // Not the directory itself: planners are confined to the one that they found.
    for (const auto& entry : std::filesystem::directory_iterator(directory_ + "/data/artifacts")) {
      std::filesystem::remove_all(entry.path());
    }
  }
}

TEST_F(DiskFaultTest, AStoreThatCannotBeWrittenRefusesByNameAndIsStillRead) {
  server_ = std::make_unique<testing::ServerProcess>(FAKE_SERVER, Arguments({"--role=api"}),
                                                     directory_ + "/log", Failing("jobs.db", EIO));
  ASSERT_TRUE(server_->AwaitServing()) << server_->Log();
  stub_ = v1::CompressionService::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + std::to_string(server_->grpc_port()), grpc::InsecureChannelCredentials()));
  const std::string before = Submit(1, 2);
  Fail();
  v1::Job job;
  const grpc::Status refused = Submit(1, 2, job);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ReasonOf(refused), "STORE_UNAVAILABLE");
  EXPECT_EQ(Get(before).state(), v1::JOB_STATE_QUEUED);
  EXPECT_THAT(Http("/livez"), HasSubstr("200"));
  EXPECT_THAT(Http("/readyz"), HasSubstr("503"));
  Heal();
  for (int i = 0; i < 100 && !Submit(1, 2, job).ok(); ++i) usleep(50'000);
  EXPECT_FALSE(job.name().empty()) << "once the disk works again, so does the store";
}

}  // namespace
}  // namespace svdllm
