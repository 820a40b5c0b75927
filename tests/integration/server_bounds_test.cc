// What is refused because another job has it, what errors name, and how much an answer holds.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "base/utf8.h"
#include "server_fixture.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ServerBoundsTest : public ServerTest {
 protected:
  // The offenders that an error names.
  std::map<std::string, std::string> Metadata(const grpc::Status& status) {
    const Details details = DetailsOf(status);
    return {details.info.metadata().begin(), details.info.metadata().end()};
  }
};

TEST_F(ServerBoundsTest, AnOutputIsTakenAtSubmission) {
  v1::CompressModelRequest request = Compression();
  request.set_output_uri("a");
  request.add_keep_ratios(0.6);
  request.set_request_id(Uuid(1));
  const std::string first = Submit(request).name();
  EXPECT_EQ(Submit(request).name(), first) << "the same submission, once more";
  request.clear_request_id();
  v1::Job job;
  for (const bool validate_only : {false, true}) {
    request.set_validate_only(validate_only);
    const grpc::Status taken = Compress(request, job);
    EXPECT_EQ(taken.error_code(), grpc::StatusCode::ALREADY_EXISTS);
    EXPECT_EQ(DetailsOf(taken).info.reason(), "OUTPUT_EXISTS");
    EXPECT_EQ(Metadata(taken)["job"], first);
    EXPECT_THAT(Metadata(taken)["output"], HasSubstr("/artifacts/a/keep-0.80"));
    EXPECT_THAT(taken.error_message(), HasSubstr(first));
  }
  v1::EvaluateRequest around = Evaluation();
  around.set_output_uri("a");
  EXPECT_EQ(DetailsOf(Evaluate(around, job)).info.reason(), "OUTPUT_EXISTS");
  around.set_output_uri("a/keep-0.60/report");
  EXPECT_EQ(DetailsOf(Evaluate(around, job)).info.reason(), "OUTPUT_EXISTS");
  around.set_output_uri("a/report");
  EXPECT_TRUE(Evaluate(around, job).ok());
  EXPECT_EQ(store_->Stats()->jobs.at(JobState::kQueued), 2);
  ASSERT_TRUE(Cancel(first, job).ok());
  request.set_validate_only(false);
  EXPECT_NE(Submit(request).name(), first) << "free again";
}

TEST_F(ServerBoundsTest, OfManySubmissionsWithOneOutputOneIsAJob) {
  std::mutex mutex;
  int accepted = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      v1::CompressModelRequest request = Compression();
      request.set_output_uri(i % 2 == 0 ? "same" : "same/inside");
      v1::Job job;
      const grpc::Status status = Compress(request, job);
      std::lock_guard<std::mutex> lock(mutex);
      if (status.ok()) ++accepted;
      EXPECT_TRUE(status.ok() || DetailsOf(status).info.reason() == "OUTPUT_EXISTS");
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(accepted, 1);
}

// Neither what is only looked at nor what is refused, cancelled or fails leaves a directory.
TEST_F(ServerBoundsTest, WhatIsNotPublishedLeavesNoTrace) {
  const auto untouched = [this] {
    EXPECT_TRUE(std::filesystem::is_empty(directory_ + "/artifacts"));
  };
  v1::CompressModelRequest request = Compression();
  request.add_keep_ratios(0.6);
  request.set_validate_only(true);
  Submit(request);
  untouched();
  request.set_output_uri("a/b/c/d");
  Submit(request);
  untouched();
  request.set_validate_only(false);
  const std::string name = Submit(request).name();
  untouched();
  v1::Job job;
  ASSERT_TRUE(Cancel(name, job).ok());
  std::ofstream(model_ + "/fail") << "3 MODEL_CORRUPT";
  StartWorker();
  EXPECT_EQ(AwaitEnd(Submit(request).name()).state(), v1::JOB_STATE_FAILED);
  untouched();
}

TEST_F(ServerBoundsTest, ErrorsNameTheOffenders) {
  v1::Job job;
  v1::GetJobRequest get;
  get.set_name("jobs/nowhere");
  EXPECT_EQ(Metadata(Call(&v1::CompressionService::Stub::GetJob, get, job))["job"], "jobs/nowhere");
  v1::CompressModelRequest request = Compression();
  request.set_model(directory_ + "/absent");
  auto metadata = Metadata(Compress(request, job));
  EXPECT_EQ(metadata["model"], "file://" + directory_ + "/absent");
  EXPECT_EQ(metadata["field"], "model");
  v1::EvaluateRequest evaluation = Evaluation();
  evaluation.set_baseline(directory_ + "/absent");
  metadata = Metadata(Evaluate(evaluation, job));
  EXPECT_EQ(metadata["model"], "file://" + directory_ + "/absent");
  EXPECT_EQ(metadata["field"], "baseline");
  request = Compression();
  request.mutable_calibration()->mutable_text()->set_uri(directory_ + "/absent.txt");
  EXPECT_EQ(Metadata(Compress(request, job))["field"], "calibration.text");
  std::ofstream(model_ + "/corrupt") << "x";
  EXPECT_EQ(Metadata(Compress(Compression(), job))["model"], "file://" + model_);
  std::filesystem::remove(model_ + "/corrupt");
  request = Compression();
  request.set_request_id(Uuid(1));
  const std::string name = Submit(request).name();
  request.set_rank_multiple(2);
  metadata = Metadata(Compress(request, job));
  EXPECT_EQ(metadata["request_id"], Uuid(1));
  EXPECT_EQ(metadata["job"], name);
  v1::DeleteJobRequest erase;
  erase.set_name(name);
  google::protobuf::Empty empty;
  EXPECT_EQ(Metadata(Call(&v1::CompressionService::Stub::DeleteJob, erase, empty))["job"], name);
  request = Compression();
  request.set_model("/etc");
  const grpc::Status outside = Compress(request, job);
  EXPECT_THAT(outside.error_message(), HasSubstr("models may be read: " + directory_))
      << "where to";
}

TEST_F(ServerBoundsTest, ServerInfoNamesTheRootsAndTheTasksOfTexts) {
  v1::ServerInfo info;
  ASSERT_TRUE(
      Call(&v1::CompressionService::Stub::GetServerInfo, v1::GetServerInfoRequest(), info).ok());
  EXPECT_THAT(info.model_roots(), ElementsAre(directory_));
  EXPECT_THAT(info.text_tasks(), ElementsAre("perplexity", "wikitext2", "ptb", "c4"));
}

TEST_F(ServerBoundsTest, TextsHaveLimits) {
  v1::Job job;
  v1::CompressModelRequest request = Compression();
  request.set_display_name(std::string(257, 'n'));
  request.mutable_calibration()->mutable_text()->set_text_field(std::string(257, 'n'));
  EXPECT_THAT(DetailsOf(Compress(request, job)).fields(),
              ::testing::UnorderedElementsAre("display_name", "calibration.text.text_field"));
  request.set_display_name(std::string(256, 'n'));
  request.mutable_calibration()->mutable_text()->set_text_field(std::string(256, 'n'));
  EXPECT_TRUE(Compress(request, job).ok());
}

// Every client takes 4 MiB, whatever the jobs are.
TEST_F(ServerBoundsTest, APageOfLargeJobsIsShorter) {
  std::vector<std::string> ids;
  for (int i = 0; i < 9; ++i) {
    v1::CompressModelRequest request = Compression();
    request.set_model(std::string(i == 4 ? 3'500'000 : 1'000'000, 'm'));  // one more than fits
    NewJob job;
    job.id = NewJobId();
    job.request = request.SerializeAsString();
    ASSERT_TRUE(store_->Create(job, 100).ok());
    ids.push_back("jobs/" + job.id);
  }
  std::vector<std::string> seen;
  std::vector<int> sizes;
  v1::ListJobsRequest request;
  do {
    v1::ListJobsResponse page;
    const grpc::Status status = Call(&v1::CompressionService::Stub::ListJobs, request, page);
    ASSERT_TRUE(status.ok()) << status.error_message();
    ASSERT_GT(page.jobs_size(), 0);
    EXPECT_TRUE(page.jobs_size() == 1 || page.ByteSizeLong() <= size_t{3} << 20);
    for (const v1::Job& job : page.jobs()) seen.push_back(job.name());
    sizes.push_back(page.jobs_size());
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  std::reverse(seen.begin(), seen.end());
  EXPECT_EQ(seen, ids) << "each once, in order";
  EXPECT_THAT(sizes, ElementsAre(3, 1, 1, 3, 1));
}

// A job's error and what it logs, at whatever length they come.
TEST_F(ServerBoundsTest, RecordsAreBoundedAndCutBetweenCharacters) {
  std::string text = "x";
  for (int i = 0; i < 50'000; ++i) text += "模";
  engine_.run_compress = [&text](const CompressSpec&, ArtifactStore&,
                                 const RunHooks& hooks) -> absl::StatusOr<CompressResult> {
    ProgressEvent progress;
    progress.stage = "load";
    progress.module = progress.message = text;
    hooks.on_progress(progress);
    return MakeError(absl::StatusCode::kInvalidArgument, kCalibrationInvalid, text);
  };
  StartWorker();
  const std::string name = Submit(Compression()).name();
  std::vector<v1::JobEvent> events;
  ASSERT_TRUE(Watch(name, 0, events).ok());
  const v1::Job job = Get(name);
  for (const std::string& bounded :
       {job.error().message(), job.progress().message(), job.progress().module(),
        job.attempts(0).error().message(), events.back().state_change().error().message()}) {
    EXPECT_GT(bounded.size(), 4000u);
    EXPECT_LE(bounded.size(), 4096u);
    EXPECT_TRUE(IsValidUtf8(bounded));
  }
}

}  // namespace
}  // namespace svdllm
