// WaitJob, and what lists say and in which order.
#include <gmock/gmock.h>

#include "server_fixture.h"

namespace svdllm {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class WaitTest : public ServerTest {
 protected:
  grpc::Status Wait(const std::string& name, int64_t timeout_ms, v1::Job& job) {
    v1::WaitJobRequest request;
    request.set_name(name);
    request.mutable_timeout()->set_seconds(timeout_ms / 1000);
    request.mutable_timeout()->set_nanos(static_cast<int32_t>(timeout_ms % 1000 * 1'000'000));
    return Call(&v1::CompressionService::Stub::WaitJob, request, job);
  }
  std::vector<std::string> Listed(const std::string& order) {
    v1::ListJobsRequest request;
    request.set_order_by(order);
    v1::ListJobsResponse response;
    const grpc::Status status = Call(&v1::CompressionService::Stub::ListJobs, request, response);
    if (!status.ok()) return {status.error_message()};
    std::vector<std::string> names;
    for (const v1::Job& job : response.jobs()) names.push_back(job.name());
    return names;
  }
};

TEST_F(WaitTest, AnswersWhenTheJobHasEnded) {
  const std::string name = Submit(Compression(4, 50)).name();
  StartWorker();
  v1::Job job;
  const auto start = steady_clock::now();
  ASSERT_TRUE(Wait(name, 15'000, job).ok());
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_LT(steady_clock::now() - start, milliseconds(14'000));
  EXPECT_EQ(job.compress_model_result().artifacts(0).matrices_size(), 1) << "as GetJob answers";
  ASSERT_TRUE(Wait(name, 15'000, job).ok()) << "it has ended before";
}

TEST_F(WaitTest, AnswersWithTheJobAsItIsWhenTimeIsUp) {
  const std::string first = Submit(Compression()).name();
  const std::string second = Submit(Compression()).name();
  v1::Job job;
  const auto start = steady_clock::now();
  ASSERT_TRUE(Wait(second, 300, job).ok());
  EXPECT_GE(steady_clock::now() - start, milliseconds(290));
  EXPECT_EQ(job.state(), v1::JOB_STATE_QUEUED);
  EXPECT_EQ(job.queue_position(), 2);
}

TEST_F(WaitTest, WhatIsWrongIsRefusedAtOnce) {
  v1::Job job;
  EXPECT_EQ(Wait("jobs/nope", 1000, job).error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(Wait("nope", 1000, job).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  const std::string name = Submit(Compression()).name();
  for (const int64_t ms : {int64_t{-1000}, int64_t{3'600'001}, int64_t{1} << 60}) {
    const grpc::Status status = Wait(name, ms, job);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << ms;
    EXPECT_THAT(DetailsOf(status).fields(), ElementsAre("timeout"));
  }
}

// Waiting takes no thread: with many who wait, others are answered.
TEST_F(WaitTest, ManyMayWait) {
  const std::string name = Submit(Compression()).name();
  constexpr int kWaiting = 200;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<v1::Job> jobs(kWaiting);
  std::atomic<int> answered{0}, cancelled{0};
  v1::WaitJobRequest request;
  request.set_name(name);
  request.mutable_timeout()->set_seconds(60);
  for (v1::Job& job : jobs) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    stub_->async()->WaitJob(contexts.back().get(), &request, &job, [&](grpc::Status status) {
      if (status.ok()) ++answered;
      if (status.error_code() == grpc::StatusCode::CANCELLED) ++cancelled;
    });
  }
  const auto await = [](const std::function<bool()>& condition) {
    for (int i = 0; i < 2000 && !condition(); ++i) std::this_thread::sleep_for(milliseconds(5));
    EXPECT_TRUE(condition());
  };
  await([&] { return Http("/metrics").find("svdllm_watch_streams 200") != std::string::npos; });
  for (int i = 0; i < 20; ++i) contexts[static_cast<size_t>(i)]->TryCancel();
  await([&] { return cancelled == 20; });
  EXPECT_EQ(answered, 0);
  v1::Job job;
  ASSERT_TRUE(Cancel(name, job).ok());
  await([&] { return answered == kWaiting - 20; });
  EXPECT_EQ(jobs.back().state(), v1::JOB_STATE_CANCELLED);
  await([&] { return Http("/metrics").find("svdllm_watch_streams 0") != std::string::npos; });
}

TEST_F(WaitTest, ADrainAndADeletionEndIt) {
  const std::string name = Submit(Compression()).name();
  const auto ends = [&](const std::function<void()>& end) {
    std::thread later([&] {
      std::this_thread::sleep_for(milliseconds(200));
      end();
    });
    v1::Job job;
    const grpc::Status status = Wait(name, 15'000, job);
    later.join();
    return status;
  };
  const grpc::Status drained = ends([&] { server_->Shutdown(); });
  EXPECT_EQ(drained.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(drained.error_message(), HasSubstr("shutting down"));
  StartServer();
  const grpc::Status deleted = ends([&] {
    // In one step, as far as those who wait can see: they look every 50 ms.
    ASSERT_TRUE(store_->Cancel(name.substr(5)).ok());
    ASSERT_TRUE(store_->Delete(name.substr(5)).ok());
  });
  EXPECT_TRUE(deleted.ok() || deleted.error_code() == grpc::StatusCode::NOT_FOUND);
}

TEST_F(WaitTest, ListsAreInTheOrderAskedFor) {
  const std::string a = Submit(Compression()).name(), b = Submit(Compression()).name();
  EXPECT_THAT(Listed(""), ElementsAre(b, a));
  EXPECT_THAT(Listed("create_time desc"), ElementsAre(b, a));
  EXPECT_THAT(Listed("create_time"), ElementsAre(a, b));
  for (const char* order : {"name", "create_time asc", "CREATE_TIME", " "}) {
    EXPECT_THAT(Listed(order), ElementsAre(HasSubstr("order_by: must be")));
  }
}

TEST_F(WaitTest, AJobIsCalledAsTheRequestSays) {
  v1::CompressModelRequest request = Compression();
  request.set_display_name("nightly é");
  const v1::Job job = Submit(request);
  EXPECT_EQ(job.display_name(), "nightly é");
  EXPECT_EQ(Get(job.name()).display_name(), "nightly é");
  EXPECT_EQ(job.queue_position(), 1);
  v1::EvaluateRequest evaluation = Evaluation();
  evaluation.set_display_name(std::string(256, 'x'));
  v1::Job second;
  ASSERT_TRUE(Evaluate(evaluation, second).ok());
  EXPECT_EQ(second.display_name().size(), 256u);
  evaluation.set_display_name(std::string(257, 'x'));
  EXPECT_THAT(DetailsOf(Evaluate(evaluation, second)).fields(), ElementsAre("display_name"));
}

}  // namespace
}  // namespace svdllm
