// Stored jobs as messages.
#include "server/job_proto.h"

#include <gtest/gtest.h>

#include "queue/job_store.h"
#include "server/run_job.h"

namespace svdllm {
namespace {

TEST(JobProtoTest, NamesAreParsedStrictly) {
  EXPECT_EQ(*ParseJobName(JobName("abc123")), "abc123");
  for (const char* bad : {"", "abc", "jobs/", "jobs/A", "jobs/a/b", "jobs/..", "jobs/a b"}) {
    EXPECT_EQ(ParseJobName(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

// Bytes as a server wrote them before evaluations had baselines: fields 1, 2 and 5.
TEST(JobProtoTest, EvaluationsOfEarlierServersAreStillRead) {
  Job job;
  job.id = "a";
  job.kind = JobKind::kEvaluate;
  job.state = JobState::kSucceeded;
  job.result = std::string("\x08\x07\x10\x09\x2a\x03", 6) + "cpu";
  const v1::EvaluateResult result = ToProto(job).evaluate_result();
  EXPECT_EQ(result.model().parameters(), 7);
  EXPECT_EQ(result.model().weight_bytes(), 9);
  EXPECT_EQ(result.device(), "cpu");
  EXPECT_FALSE(result.has_verdict());
}

// One such row would make a list unreadable for everybody.
TEST(JobProtoTest, AnErrorOfOddBytesCanBeRead) {
  Job job;
  job.id = "a";
  job.state = JobState::kFailed;
  job.error = JobError{absl::StatusCode::kUnknown, "A\xff", "b\xff"};
  v1::Job read;
  ASSERT_TRUE(read.ParseFromString(ToProto(job).SerializeAsString()));
  EXPECT_EQ(read.error().reason(), "A\xef\xbf\xbd");
}

TEST(JobProtoTest, WhatCannotBeReadIsLeftOut) {
  Job job;
  job.id = "a";
  const std::string odd("\x0a\x02\xff\xfe", 4);  // field 1, a text that is no UTF-8
  for (const JobKind kind : {JobKind::kCompressModel, JobKind::kEvaluate}) {
    job.kind = kind;
    job.state = JobState::kSucceeded;
    job.request = job.result = job.progress = odd;
    v1::Job read;
    EXPECT_TRUE(read.ParseFromString(ToProto(job).SerializeAsString()));
  }
  for (const EventKind kind : {EventKind::kProgress, EventKind::kArtifact, EventKind::kLog}) {
    Event event;
    event.kind = kind;
    event.payload = odd;
    v1::JobEvent read;
    EXPECT_TRUE(read.ParseFromString(ToProto(event).SerializeAsString()));
  }
}

TEST(JobProtoTest, SpeedIsTold) {
  EvaluateResult result;
  result.peak_device_bytes = 77;
  result.model.figures.throughputs = {{8, 512, 32, 3, {1000, 900, 1100}, {50, 45, 55}, 123, 1.5}};
  const v1::EvaluateResult message = ToProto(result);
  EXPECT_EQ(message.peak_device_bytes(), 77);
  ASSERT_EQ(message.model().throughputs_size(), 1);
  EXPECT_EQ(message.model().throughputs(0).ShortDebugString(),
            "batch_size: 8 prompt_tokens: 512 new_tokens: 32 repetitions: 3 "
            "prefill_tokens_per_second: 1000 least_prefill_tokens_per_second: 900 "
            "largest_prefill_tokens_per_second: 1100 decode_tokens_per_second: 50 "
            "least_decode_tokens_per_second: 45 largest_decode_tokens_per_second: 55 "
            "peak_memory_bytes: 123 seconds: 1.5");
}

TEST(JobProtoTest, ComparisonsAndRecordsAreTold) {
  CompressResult result;
  ArtifactResult& artifact = result.artifacts.emplace_back();
  artifact.comparisons = {{"wiki", Comparison::kPerplexityMetric, 10, 12, 0.2, 0.01, 0.1, false},
                          {"piqa", "acc", 0.5, 0.5, 0, -1, {}, true}};
  artifact.verdict = Verdict{false, {"wiki: worse"}, {"piqa: doubtful"}};
  artifact.warnings = {"destroyed"};
  PerplexityResult& text = artifact.figures.perplexities.emplace_back();
  text.seq_len = 64;
  text.data = {"/t", "ab", 7};
  text.log_std_error = 0.5;
  artifact.figures.tasks = {{"piqa", "piqa", {}, 3}};
  artifact.figures.tasks[0].data = {{"/q", "cd", 8}};
  artifact.figures.tasks[0].num_fewshot = 5;
  EXPECT_EQ(ToProto(result).artifacts(0).ShortDebugString(),
            "perplexities { seq_len: 64 data { uri: \"/t\" sha256: \"ab\" bytes: 7 } "
            "log_std_error: 0.5 } tasks { name: \"piqa\" task: \"piqa\" items: 3 "
            "data { uri: \"/q\" sha256: \"cd\" bytes: 8 } num_fewshot: 5 } "
            "comparisons { name: \"wiki\" metric: \"perplexity\" baseline: 10 value: 12 "
            "change: 0.2 std_error: 0.01 limit: 0.1 } "
            "comparisons { name: \"piqa\" metric: \"acc\" baseline: 0.5 value: 0.5 "
            "accepted: true } "
            "verdict { regressions: \"wiki: worse\" warnings: \"piqa: doubtful\" } "
            "warnings: \"destroyed\"");
}

TEST(JobProtoTest, AFailedJobShowsTheFiguresThatAreWhy) {
  CompressResult result;
  result.parameters = 7;
  result.artifacts.resize(2);
  result.artifacts[1].uri = "file:///a";
  Job job;
  job.state = JobState::kFailed;
  job.result = ToProto(result).SerializeAsString();
  const v1::Job message = ToProto(job);
  EXPECT_EQ(message.compress_model_result().parameters(), 7);
  ASSERT_EQ(message.artifact_uris_size(), 1) << "nothing was published of the first";
  EXPECT_EQ(message.artifact_uris(0), "file:///a");
  job.result.clear();
  EXPECT_FALSE(ToProto(job).has_compress_model_result());
}

TEST(JobProtoTest, AJobThatHasEndedHasNoTimeLeft) {
  ProgressEvent progress;
  progress.percent = 66;
  progress.eta_seconds = 5;
  Job job;
  job.progress = ToProto(progress).SerializeAsString();
  job.state = JobState::kRunning;
  EXPECT_TRUE(ToProto(job).progress().has_eta());
  job.state = JobState::kSucceeded;
  EXPECT_FALSE(ToProto(job).progress().has_eta());
  job.progress.clear();
  EXPECT_FALSE(ToProto(job).has_progress());
}

TEST(JobProtoTest, WhatWasReadAndHowIsTold) {
  CompressResult result;
  result.before.perplexities = {{"wiki", 12, 8188, 4, 0, 1, 1, false, 2048, WindowStart::kWindow},
                                {"documents", 12, 8188, 4}};
  result.calibration = {
      6, 384, {"a.txt: short"}, {{"file:///a.txt", "00ff", 77}}, WindowStart::kText};
  const v1::CompressModelResult message = ToProto(result);
  EXPECT_EQ(message.perplexities(0).seq_len(), 2048);
  EXPECT_EQ(message.perplexities(0).window_start(), v1::WINDOW_START_WINDOW);
  EXPECT_EQ(message.perplexities(1).window_start(), v1::WINDOW_START_UNSPECIFIED);
  EXPECT_EQ(message.calibration().ShortDebugString(),
            "sequences: 6 tokens: 384 data { uri: \"file:///a.txt\" sha256: \"00ff\" bytes: 77 } "
            "warnings: \"a.txt: short\" window_start: WINDOW_START_TEXT");
}

TEST(JobProtoTest, UnreadableBytesInTheStoreAreNoCrash) {
  Job job;
  job.id = "a";
  job.state = JobState::kSucceeded;
  job.request = job.result = job.progress = "\xff\xff\xff";
  EXPECT_EQ(ToProto(job).name(), "jobs/a");
}

TEST(SecondsAlone, LeavesOutWhatOthersTook) {
  EXPECT_EQ(SecondsAlone(28, 49, 2), 28) << "it had the processor";
  EXPECT_NEAR(SecondsAlone(220, 49, 2), 30.6, 0.1) << "others had most of it";
  EXPECT_EQ(SecondsAlone(28, 25, 1), 28);
  EXPECT_EQ(SecondsAlone(2, 0.1, 2), 2) << "reading and starting, mostly";
}

}  // namespace
}  // namespace svdllm
