// Stored jobs as messages.
#include "server/job_proto.h"

#include <gtest/gtest.h>

#include "queue/job_store.h"

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

}  // namespace
}  // namespace svdllm
