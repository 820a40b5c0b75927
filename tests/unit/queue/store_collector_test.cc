#include "metrics/store_collector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "metrics/metrics.h"
#include "queue/job.h"
#include "tests/support/source_dir.h"

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
  CountSeconds(kStageDuration, {"EVALUATE", "calibrate"}, 0.3, sample.counters);
  CountSeconds(kStageDuration, {"EVALUATE", "calibrate"}, 10, sample.counters);
  CountSeconds(kStageDuration, {"EVALUATE", "calibrate"}, 1e6, sample.counters);
  CountSeconds(kStageDuration, {"EVALUATE", "write"}, 0.01, sample.counters);
  const std::string text = Scrape(sample);
  const std::string labels = "{kind=\"EVALUATE\",stage=\"calibrate\"";
  const std::string bucket = "svdllm_stage_duration_seconds_bucket" + labels + ",le=";
  EXPECT_THAT(text, HasSubstr(bucket + "\"0.1\"} 0\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"0.5\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"10\"} 2\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"+Inf\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_stage_duration_seconds_count" + labels + "} 3\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_stage_duration_seconds_sum" + labels + "} 1000010.3\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_stage_duration_seconds_count{kind=\"EVALUATE\",stage="
                              "\"write\"} 1\n"));
}

TEST(StoreCollectorTest, RowsOfEarlierVersionsAreShownAsFarAsTheyFit) {
  StoreSample sample;
  // As 0.1 wrote them: no kind, and the number of a bound.
  sample.counters["svdllm_stage_duration_seconds|calibrate|sum"] = 5;
  sample.counters["svdllm_stage_duration_seconds|calibrate|count"] = 1;
  sample.counters["svdllm_stage_duration_seconds|calibrate|le3"] = 1;
  // Under bounds that there are no longer.
  sample.counters["svdllm_queue_wait_seconds|EVALUATE|sum"] = 200015;
  sample.counters["svdllm_queue_wait_seconds|EVALUATE|le15"] = 1;
  sample.counters["svdllm_queue_wait_seconds|EVALUATE|le500000"] = 1;
  const std::string text = Scrape(sample);
  EXPECT_THAT(text, ::testing::Not(HasSubstr("calibrate")));
  const std::string bucket = "svdllm_queue_wait_seconds_bucket{kind=\"EVALUATE\",le=";
  EXPECT_THAT(text, HasSubstr(bucket + "\"10\"} 0\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"30\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"259200\"} 1\n"));
  EXPECT_THAT(text, HasSubstr(bucket + "\"+Inf\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_queue_wait_seconds_count{kind=\"EVALUATE\"} 2\n"));
}

// The names of the contract and those of the store are the ones that are there from the start.
TEST(StoreCollectorTest, NoKindStateOrReasonIsMissing) {
  std::ifstream file(SourceDir() + "/proto/svdllm/v1/compression.proto");
  std::stringstream proto;
  proto << file.rdbuf();
  std::string list = proto.str();
  const size_t begin = list.find("// Reasons: ");
  ASSERT_NE(begin, std::string::npos);
  list = list.substr(begin, list.find(". New ones", begin) - begin);
  list = std::regex_replace(list, std::regex("\\([^)]*\\)"), "");
  std::set<std::string> reasons;
  const std::regex word("[A-Z_]{4,}");
  for (std::sregex_iterator it(list.begin(), list.end(), word), end; it != end; ++it) {
    reasons.insert(it->str());
  }
  EXPECT_EQ(reasons, std::set<std::string>(std::begin(kReasons), std::end(kReasons)));
  const std::string text = Scrape(StoreSample());
  for (const JobKind kind : {JobKind::kCompressModel, JobKind::kEvaluate}) {
    for (const JobState state : {JobState::kSucceeded, JobState::kFailed, JobState::kCancelled}) {
      const std::string labels = "{kind=\"" + std::string(JobKindName(kind)) + "\",state=\"" +
                                 std::string(JobStateName(state)) + "\"";
      EXPECT_THAT(text, HasSubstr("svdllm_jobs_finished_total" + labels));
      EXPECT_THAT(text, HasSubstr("svdllm_job_duration_seconds_count" + labels + "} 0\n"));
    }
  }
}

TEST(StoreCollectorTest, AWorkerIsInOneState) {
  StoreSample sample;
  sample.workers = {{"cpu", kWorkerIdle}, {"cuda:0", kWorkerDown}};
  const std::string text = Scrape(sample);
  EXPECT_THAT(text, HasSubstr("svdllm_workers{device=\"cpu\",state=\"running\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_workers{device=\"cpu\",state=\"idle\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_workers{device=\"cuda:0\",state=\"idle\"} 0\n"));
  EXPECT_THAT(text, HasSubstr("svdllm_workers{device=\"cuda:0\",state=\"down\"} 1\n"));
}

TEST(StoreCollectorTest, CountersAndGaugesCarryTheirLabels) {
  StoreSample sample;
  sample.jobs = {{"QUEUED", 2}, {"FAILED", 0}};
  sample.queue_depth = 2;
  sample.oldest_age_seconds = 1.5;
  sample.counters[CounterKey(kJobAttempts, {"lost"})] = 4;
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
