#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <string>

#include "metrics/metrics.h"
#include "metrics/store_collector.h"

namespace svdllm {
namespace {

using ::testing::HasSubstr;

std::string Scrape(const StoreSample& sample) {
  const StoreCollector collector([&](StoreSample& out) {
    out = sample;
    return true;
  });
  return prometheus::TextSerializer().Serialize(collector.Collect());
}

TEST(StoreCollectorTest, StagesBecomeAHistogramWithCumulativeBuckets) {
  StoreSample sample;
  CountStage("calibrate", 0.3, sample.counters);
  CountStage("calibrate", 10, sample.counters);
  CountStage("calibrate", 1e6, sample.counters);
  CountStage("write", 0.01, sample.counters);
  const std::string text = Scrape(sample);
  const std::string bucket = "svdllm_stage_duration_seconds_bucket{stage=\"calibrate\",le=";
  EXPECT_THAT(text, HasSubstr(bucket + "\"0.1\"} 0\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"0.5\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"15\"} 2\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"+Inf\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_stage_duration_seconds_count{stage=\"calibrate\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_stage_duration_seconds_count{stage=\"write\"} 1\n"));
}

TEST(StoreCollectorTest, CountersAndGaugesCarryTheirLabels) {
  StoreSample sample;
  sample.jobs = {{"QUEUED", 2}, {"FAILED", 0}};
  sample.queue_depth = 2;
  sample.oldest_age_seconds = 1.5;
  sample.counters[CounterKey(kJobAttempts, "lost")] = 4;
  sample.counters[kFencedWrites] = 7;
  const std::string text = Scrape(sample);
  EXPECT_THAT(text, HasSubstr("svdllm_jobs{state=\"QUEUED\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_jobs{state=\"FAILED\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_queue_depth 2\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_queue_oldest_age_seconds 1.5\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_job_attempts_total{outcome=\"lost\"} 4\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_job_attempts_total{outcome=\"succeeded\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_fenced_writes_total 7\n"));
}

TEST(StoreCollectorTest, UnreadableStoreShowsNothingRatherThanZero) {
  const StoreCollector collector([](StoreSample&) { return false; });
  EXPECT_TRUE(collector.Collect().empty());
}

}  // namespace
}  // namespace svdllm
