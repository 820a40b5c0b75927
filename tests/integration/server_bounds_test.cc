// What is refused because another job has it, what errors name, and how much an answer holds.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>

#include "base/utf8.h"
#include "server/job_api.h"
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

TEST_F(ServerBoundsTest, MoreWatchersThanMayAreRefusedByName) {
  max_watchers_ = 2;
  StartServer();
  v1::ServerInfo info;
  ASSERT_TRUE(
      Call(&v1::CompressionService::Stub::GetServerInfo, v1::GetServerInfoRequest(), info).ok());
  EXPECT_EQ(info.limits().max_watchers(), 2);
  EXPECT_GT(info.limits().max_calls_per_connection(), 1000);
  v1::WatchJobRequest request;
  request.set_name(Submit(Compression()).name());
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::JobEvent>>> streams;
  v1::JobEvent event;
  for (int i = 0; i < 2; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(stub_->WatchJob(contexts.back().get(), request));
    ASSERT_TRUE(streams.back()->Read(&event));
  }
  std::vector<v1::JobEvent> events;
  const grpc::Status busy = Watch(request.name(), 0, events);
  EXPECT_EQ(busy.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(busy).info.reason(), "SERVER_BUSY");
  EXPECT_GT(DetailsOf(busy).retry.retry_delay().seconds(), 0);
  v1::WaitJobRequest wait;
  wait.set_name(request.name());
  v1::Job job;
  EXPECT_EQ(DetailsOf(Call(&v1::CompressionService::Stub::WaitJob, wait, job)).info.reason(),
            "SERVER_BUSY");
  EXPECT_EQ(Get(request.name()).state(), v1::JOB_STATE_QUEUED) << "all else is answered";
  contexts[0]->TryCancel();
  streams[0]->Finish();
  wait.mutable_timeout()->set_nanos(1'000'000);
  bool waited = false;
  for (int i = 0; i < 500 && !waited; ++i) {
    waited = Call(&v1::CompressionService::Stub::WaitJob, wait, job).ok();
    if (!waited) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_TRUE(waited) << "who goes makes room";
  contexts[1]->TryCancel();
}

// Whatever a model's files are called: what is no text would be an answer that nobody can read.
TEST_F(ServerBoundsTest, TextsOfResultsAndPlansAreTextsAndBounded) {
  const std::string odd = "odd \xff\xfe name";
  engine_.run_compress = [&odd](const CompressSpec&, ArtifactStore&,
                                const RunHooks& hooks) -> absl::StatusOr<CompressResult> {
    ProgressEvent progress;
    progress.stage = odd;
    hooks.on_progress(progress);
    CompressResult result;
    result.device = odd;
    result.calibration.warnings = {odd, std::string(9000, 'w')};
    result.artifacts.emplace_back().matrices = {{odd, 8, 8, 3, 0.1, 0.2, 0}};
    return result;
  };
  const auto plan_compress = engine_.plan_compress;
  engine_.plan_compress = [&](const CompressSpec& spec) -> absl::StatusOr<CompressPlan> {
    ASSIGN_OR_RETURN(CompressPlan plan, plan_compress(spec));
    plan.artifacts[0].matrices[0].name = odd;
    return plan;
  };
  v1::CompressModelRequest request = Compression();
  request.set_validate_only(true);
  EXPECT_EQ(Submit(request).plan().artifacts(0).matrices(0).name(), ToValidUtf8(odd));
  StartWorker();
  const std::string name = Submit(Compression()).name();
  std::vector<v1::JobEvent> events;
  ASSERT_TRUE(Watch(name, 0, events).ok());
  const v1::Job job = Get(name);
  EXPECT_EQ(job.state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(job.progress().stage(), ToValidUtf8(odd));
  const v1::CompressModelResult& result = job.compress_model_result();
  EXPECT_EQ(result.device(), ToValidUtf8(odd));
  EXPECT_EQ(result.artifacts(0).matrices(0).name(), ToValidUtf8(odd));
  EXPECT_LE(result.calibration().warnings(1).size(), 4096u);
}

TEST_F(ServerBoundsTest, AJobThatNoDiskCouldHoldIsRefusedAndOneThatFindsNoRoomFailsAtOnce) {
  const auto plan_compress = engine_.plan_compress;
  int64_t bytes = int64_t{1} << 60;
  engine_.plan_compress = [&](const CompressSpec& spec) -> absl::StatusOr<CompressPlan> {
    ASSIGN_OR_RETURN(CompressPlan plan, plan_compress(spec));
    plan.artifacts[0].weight_bytes = bytes;
    return plan;
  };
  // A server whose planners know the volumes, as the real one's do.
  const SubmissionChecker checker =
      CheckHere(engine_, *artifacts_, {directory_ + "/work", directory_ + "/artifacts"});
  JobApi api(*store_, engine_, checker, {});
  const auto refused = api.CompressModel(Compression(), Caller{});
  EXPECT_EQ(ErrorReason(refused.status()), kScratchFull);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("the job writes 1.15 EB"));

  bytes = static_cast<int64_t>(std::filesystem::space(directory_).available) * 3 / 2;
  const bool fits = bytes < static_cast<int64_t>(std::filesystem::space(directory_).capacity);
  v1::CompressModelRequest request = Compression();
  request.set_validate_only(true);
  if (fits) {
    const auto warned = api.CompressModel(request, Caller{});
    ASSERT_TRUE(warned.ok()) << warned.status();
    EXPECT_THAT(warned->plan().warnings(1), HasSubstr("SCRATCH_FULL unless there is room"));
  }
  StartWorker();
  const v1::Job job = AwaitEnd(Submit(Compression(1000, 100)).name());
  EXPECT_EQ(job.state(), v1::JOB_STATE_FAILED);
  EXPECT_EQ(job.error().reason(), "SCRATCH_FULL");
  EXPECT_THAT(job.error().message(), HasSubstr(" are free"));
  EXPECT_EQ(job.attempt(), 1) << "not tried again: the disk is as full then";
  bytes = 1800;
  EXPECT_EQ(AwaitEnd(Submit(Compression()).name()).state(), v1::JOB_STATE_SUCCEEDED);
}

}  // namespace
}  // namespace svdllm
