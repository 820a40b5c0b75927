// Callers with tokens: what each role does, whose a job is, and what is said of it.
#include <gmock/gmock.h>

#include "base/digest.h"
#include "server_fixture.h"

namespace svdllm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Stub = v1::CompressionService::Stub;

class ServerIdentityTest : public ServerTest {
 protected:
  void SetUp() override {
    ServerTest::SetUp();
    tokens_ = directory_ + "/tokens";
    std::ofstream(tokens_) << "watcher read " << Sha256("of watcher") << "\nalice submit "
                           << Sha256("of alice") << "\nbob submit " << Sha256("of bob")
                           << "\nroot admin " << Sha256("of root") << "\n";
    StartServer();
  }
  void As(const std::string& name) { token_ = name.empty() ? "" : "of " + name; }
  v1::Job SubmitAs(const std::string& name) {
    As(name);
    return Submit(Compression());
  }
  static void ExpectRefused(const grpc::Status& status, grpc::StatusCode code,
                            const std::string& reason) {
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_EQ(DetailsOf(status).info.reason(), reason);
  }
  static void ExpectForbidden(const grpc::Status& status) {
    ExpectRefused(status, grpc::StatusCode::PERMISSION_DENIED, "FORBIDDEN");
  }
  grpc::Status Delete(const std::string& name) {
    v1::DeleteJobRequest request;
    request.set_name(name);
    google::protobuf::Empty empty;
    return Call(&Stub::DeleteJob, request, empty);
  }
  grpc::Status Wait(const std::string& name) {
    v1::WaitJobRequest request;
    request.set_name(name);
    request.mutable_timeout()->set_nanos(1'000'000);
    v1::Job job;
    return Call(&Stub::WaitJob, request, job);
  }
  // Everything that reads.
  std::vector<grpc::Status> Reads(const std::string& name) {
    std::vector<grpc::Status> answers;
    v1::GetJobRequest get;
    get.set_name(name);
    v1::Job job;
    answers.push_back(Call(&Stub::GetJob, get, job));
    v1::ListJobsResponse list;
    answers.push_back(Call(&Stub::ListJobs, v1::ListJobsRequest(), list));
    v1::ServerInfo info;
    answers.push_back(Call(&Stub::GetServerInfo, v1::GetServerInfoRequest(), info));
    answers.push_back(Wait(name));
    std::vector<v1::JobEvent> events;
    answers.push_back(Watch(name, 0, events));
    return answers;
  }
};

TEST_F(ServerIdentityTest, NobodyGetsAnythingWithoutAToken) {
  const std::string name = SubmitAs("alice").name();
  v1::Job job;
  ASSERT_TRUE(Cancel(name, job).ok());  // so that a watch of it ends
  for (const char* token : {"", "wrong", "of watcher "}) {
    token_ = token;
    std::vector<grpc::Status> answers = Reads(name);
    answers.push_back(Compress(Compression(), job));
    answers.push_back(Evaluate(Evaluation(), job));
    answers.push_back(Cancel(name, job));
    answers.push_back(Delete(name));
    answers.push_back(Delete("nonsense"));
    answers.push_back(Wait("nonsense"));
    for (const grpc::Status& answer : answers) {
      ExpectRefused(answer, grpc::StatusCode::UNAUTHENTICATED, "UNAUTHENTICATED");
    }
  }
  for (const char* path : {"/livez", "/readyz"}) EXPECT_THAT(Http(path), HasSubstr(" 200 "));
  EXPECT_THAT(Http("/metrics"), HasSubstr(" 401 "));
  As("watcher");
  EXPECT_THAT(Http("/metrics"), HasSubstr("refused_total{reason=\"UNAUTHENTICATED\"} 6\n"));
}

TEST_F(ServerIdentityTest, ARoleDoesWhatItSays) {
  const std::string name = SubmitAs("alice").name();
  v1::Job job;
  As("watcher");
  ExpectForbidden(Compress(Compression(), job));
  ExpectForbidden(Evaluate(Evaluation(), job));
  v1::CompressModelRequest plan = Compression();
  plan.set_validate_only(true);
  ExpectForbidden(Compress(plan, job));
  ExpectForbidden(Cancel(name, job));
  ExpectForbidden(Delete(name));
  As("bob");
  ExpectForbidden(Cancel(name, job));
  ExpectForbidden(Delete(name));
  EXPECT_EQ(Get(name).state(), v1::JOB_STATE_QUEUED);
  As("alice");
  ASSERT_TRUE(Cancel(name, job).ok());
  EXPECT_EQ(job.state(), v1::JOB_STATE_CANCELLED);
  As("watcher");
  for (const grpc::Status& answer : Reads(name)) EXPECT_TRUE(answer.ok()) << answer.error_message();
  As("alice");
  EXPECT_TRUE(Delete(name).ok());
  // What is not there is not forbidden.
  As("bob");
  ExpectRefused(Cancel(name, job), grpc::StatusCode::NOT_FOUND, "JOB_NOT_FOUND");
}

TEST_F(ServerIdentityTest, AdminsEndWhatIsOthers) {
  const std::string name = SubmitAs("alice").name();
  As("root");
  v1::Job job;
  EXPECT_TRUE(Cancel(name, job).ok());
  EXPECT_EQ(job.owner(), "alice");
  EXPECT_TRUE(Delete(name).ok());
}

TEST_F(ServerIdentityTest, AJobIsItsSubmittersAlsoOnceTokensAreGone) {
  const std::string name = SubmitAs("alice").name();
  EXPECT_EQ(Get(name).owner(), "alice");
  tokens_.clear();
  StartServer();
  EXPECT_EQ(Get(name).owner(), "alice");
  token_.clear();
  const std::string nobodys = Submit(Compression()).name();
  EXPECT_EQ(Get(nobodys).owner(), "");
  // And one that was nobody's is no caller's afterwards.
  tokens_ = directory_ + "/tokens";
  StartServer();
  As("alice");
  v1::Job job;
  ExpectForbidden(Cancel(nobodys, job));
}

TEST_F(ServerIdentityTest, ARequestIdIsItsOwnersAlone) {
  v1::CompressModelRequest request = Compression();
  request.set_request_id(Uuid(1));
  As("alice");
  const v1::Job first = Submit(request);
  EXPECT_EQ(Submit(request).name(), first.name());
  for (const char* other : {"bob", "root"}) {
    As(other);
    v1::Job job;
    ExpectRefused(Compress(request, job), grpc::StatusCode::INVALID_ARGUMENT, "REQUEST_ID_REUSED");
    EXPECT_EQ(job.name(), "");
  }
}

TEST_F(ServerIdentityTest, ListsOfOneOwner) {
  SubmitAs("alice");
  const std::string name = SubmitAs("bob").name();
  As("watcher");
  v1::ListJobsRequest request;
  request.set_owner("bob");
  v1::ListJobsResponse list;
  ASSERT_TRUE(Call(&Stub::ListJobs, request, list).ok());
  ASSERT_EQ(list.jobs_size(), 1);
  EXPECT_EQ(list.jobs(0).name(), name);
  EXPECT_EQ(list.jobs(0).owner(), "bob");
}

TEST_F(ServerIdentityTest, ChangesAreLoggedWithTheirCallerAndNoToken) {
  ::testing::internal::CaptureStderr();
  const std::string name = SubmitAs("alice").name();
  v1::Job job;
  As("bob");
  ExpectForbidden(Cancel(name, job));
  As("watcher");
  ExpectForbidden(Compress(Compression(), job));
  As("root");
  EXPECT_TRUE(Cancel(name, job).ok());
  EXPECT_TRUE(Delete(name).ok());
  const std::string log = ::testing::internal::GetCapturedStderr();
  const auto line = [&log](const std::string& message) {
    const size_t at = log.find("\"" + message + "\"");
    return at == std::string::npos
               ? ""
               : log.substr(log.rfind('\n', at) + 1, log.find('\n', at) - log.rfind('\n', at) - 1);
  };
  EXPECT_THAT(line("job accepted"), HasSubstr("\"caller\":\"alice\""));
  EXPECT_THAT(line("call forbidden"), HasSubstr("\"caller\":\"bob\""));
  EXPECT_THAT(line("submission refused"), HasSubstr("\"caller\":\"watcher\""));
  EXPECT_THAT(line("job cancelled"), HasSubstr("\"caller\":\"root\""));
  EXPECT_THAT(line("job deleted"), HasSubstr("\"caller\":\"root\""));
  EXPECT_THAT(line("job deleted"), HasSubstr("\"peer\":\"ipv4:127.0.0.1:"));
  EXPECT_THAT(log, Not(HasSubstr("of alice")));
  EXPECT_THAT(log, Not(HasSubstr(Sha256("of alice"))));
}

TEST_F(ServerIdentityTest, AWatchGoesOnWhileTokensChange) {
  const std::string name = SubmitAs("alice").name();
  std::vector<v1::JobEvent> events;
  std::thread watch([&] {
    const grpc::Status status = Watch(name, 0, events);
    EXPECT_TRUE(status.ok()) << status.error_message();
  });
  // Until the stream is open.
  bool open = false;
  for (int i = 0; i < 500 && !open; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    open = Http("/metrics").find("svdllm_watch_streams 1") != std::string::npos;
  }
  EXPECT_TRUE(open);
  std::ofstream(tokens_) << "root admin " << Sha256("another of root") << "\n";
  v1::ServerInfo info;
  grpc::Status status;
  for (int i = 0; i < 100; ++i) {
    grpc::ClientContext next;
    next.AddMetadata("authorization", "Bearer another of root");
    status = stub_->GetServerInfo(&next, {}, &info);
    if (status.ok()) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_TRUE(status.ok()) << status.error_message();
  grpc::ClientContext late;
  late.AddMetadata("authorization", "Bearer of alice");
  EXPECT_EQ(stub_->GetServerInfo(&late, {}, &info).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  StartWorker();
  watch.join();
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events.back().state_change().state(), v1::JOB_STATE_SUCCEEDED);
}

TEST_F(ServerIdentityTest, TheAnswerToAQuotaSaysWhenToTryAgain) {
  server_.reset();
  store_.reset();
  SqliteStoreOptions options;
  options.path = directory_ + "/jobs.db";
  options.owner_limits.queued = 1;
  store_ = *OpenSqliteJobStore(options);
  StartServer();
  SubmitAs("alice");
  v1::Job job;
  const grpc::Status second = Compress(Compression(), job);
  ExpectRefused(second, grpc::StatusCode::RESOURCE_EXHAUSTED, "QUOTA_EXCEEDED");
  EXPECT_GT(DetailsOf(second).retry.retry_delay().seconds(), 0);
  EXPECT_THAT(Http("/metrics"), HasSubstr("refused_total{reason=\"QUOTA_EXCEEDED\"} 1\n"));
  SubmitAs("bob");
}

}  // namespace
}  // namespace svdllm
