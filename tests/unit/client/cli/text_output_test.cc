#include "client/cli/text_output.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "client/cli/command.h"
#include "client/cli/follow.h"
#include "client/cli/format.h"
#include "client/cli/json_output.h"

namespace svdllm::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

template <typename Message>
Message Parse(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message));
  return message;
}

TEST(FormatTest, Numbers) {
  EXPECT_EQ(Perplexity(17.324), "17.32");
  EXPECT_EQ(Perplexity(136000), "1.36e+05");
  EXPECT_EQ(ChangeText(200, 150), " (-25.0 %)");
  EXPECT_EQ(ChangeText(0, 150), "");
  EXPECT_EQ(Time({}), "-");
}

TEST(FormatTest, TablesAlignByWhatIsSeen) {
  EXPECT_EQ(Table({{"name", "n"}, {"a → b", "5"}, {"c", "1,000"}}),
            "name       n\na → b      5\nc      1,000\n");
  EXPECT_EQ(Table({{"name", "state"}, {"a\nb", "ok"}}), "name  state\na b   ok\n");
}

TEST(FormatTest, WrapKeepsLinesShortAndWordsWhole) {
  EXPECT_EQ(Wrap("one two  three", "  ", 9), "  one two\n  three\n");
  EXPECT_EQ(Wrap("muchtoolong x", "  ", 5), "  muchtoolong\n  x\n");
}

TEST(FormatTest, ControlCharactersDoNotReachTheTerminal) {
  EXPECT_EQ(Printable("a\x1b[1m\tb\n"), "a\\x1b[1m\tb\n");
  EXPECT_EQ(Printable("\u009b2J \u0080 \u00a0\u00e9\u2192 \x7f"),
            "\\u009b2J \\u0080 \u00a0\u00e9\u2192 \\x7f");
  EXPECT_EQ(Printable("a\u202eb\u2066"), "a\\u202eb\\u2066");
  EXPECT_EQ(Printable("\xc2"), "\ufffd");
}

TEST(FormatTest, EveryTextOfAMessageIsMadePrintable) {
  v1::Job job;
  job.set_name("jobs/\x1b]0;x");
  (*job.mutable_labels())["a\nb"] = "\u009b";
  job.mutable_error()->set_message("one\n\ttwo");
  job.add_artifact_uris("\r");
  job.mutable_compress_model_request()->mutable_evaluation()->add_tasks()->set_label("\x07");
  const v1::Job printable = PrintableMessage(job);
  EXPECT_EQ(printable.name(), "jobs/\\x1b]0;x");
  EXPECT_EQ(printable.labels().at("a\\nb"), "\\u009b");
  EXPECT_EQ(printable.error().message(), "one\\n\\ttwo");
  EXPECT_EQ(printable.artifact_uris(0), "\\x0d");
  EXPECT_EQ(printable.compress_model_request().evaluation().tasks(0).label(), "\\x07");
}

constexpr char kCompressed[] = R"(
    name: 'jobs/7' state: JOB_STATE_SUCCEEDED start_time { seconds: 100 } end_time { seconds: 233 }
    attempt: 1 max_attempts: 3
    compress_model_request { model: 'file:///m' method: METHOD_SVD_LLM encoding: ENCODING_PLAIN allocation: ALLOCATION_UNIFORM
                             keep_ratios: 0.8 keep_ratios: 0.6 }
    compress_model_result {
      parameters: 1000 weight_bytes: 2000 device: 'cpu' peak_host_bytes: 1200000000
      perplexities { name: 'perplexity' perplexity: 17.32 }
      artifacts { keep_ratio: 0.8 uri: 'file:///a/keep-0.80' parameters: 830 weight_bytes: 1660
                  perplexities { name: 'perplexity' perplexity: 22.111 } }
      artifacts { keep_ratio: 0.6 uri: 'file:///a/keep-0.60' parameters: 650 weight_bytes: 1300 }
    })";

TEST(TextOutputTest, SummaryOfACompression) {
  EXPECT_EQ(
      JobSummary(Parse<v1::Job>(kCompressed)),
      "jobs/7 succeeded after 2m13s (SVD_LLM, PLAIN, UNIFORM ranks, cpu, peak memory 1.20 GB)\n"
      "\n"
      "keep ratio     parameters              bytes     perplexity  artifact\n"
      "     dense          1,000            2.00 kB          17.32\n"
      "       0.8  830 (-17.0 %)  1.66 kB (-17.0 %)  17.32 → 22.11  file:///a/keep-0.80\n"
      "       0.6  650 (-35.0 %)  1.30 kB (-35.0 %)              -  file:///a/keep-0.60\n");
}

TEST(TextOutputTest, WhatCalibrationWasShortOfIsTold) {
  v1::Job job = Parse<v1::Job>(kCompressed);
  job.mutable_compress_model_result()->mutable_calibration()->add_warnings("few.txt: it is short");
  EXPECT_THAT(JobSummary(job), ::testing::EndsWith("keep-0.60\n\nwarning: few.txt: it is short\n"));
}

TEST(TextOutputTest, PerplexitiesInDomainAreTold) {
  const std::string text = JobSummary(Parse<v1::Job>(R"(
      name: 'jobs/7' state: JOB_STATE_SUCCEEDED
      compress_model_request { method: METHOD_ANCHORED encoding: ENCODING_PIVOTED allocation: ALLOCATION_KL_PROBE }
      compress_model_result {
        perplexities { name: 'held_out_perplexity' perplexity: 17.3 held_out: true }
        perplexities { name: 'c4' perplexity: 21.5 }
        artifacts { keep_ratio: 0.8
                    perplexities { name: 'held_out_perplexity' perplexity: 18 held_out: true }
                    perplexities { name: 'c4' perplexity: 24 } } })"));
  EXPECT_THAT(text, HasSubstr("(ANCHORED, PIVOTED, KL_PROBE ranks)"));
  EXPECT_THAT(text, HasSubstr("  held_out_perplexity (in domain)             c4  artifact\n"));
  EXPECT_THAT(text, HasSubstr("                    17.30 → 18.00  21.50 → 24.00\n"));
}

TEST(TextOutputTest, RequestsTellTheirSources) {
  const std::string text = JobDetails(Parse<v1::Job>(R"(
      name: 'jobs/7' kind: JOB_KIND_COMPRESS_MODEL state: JOB_STATE_QUEUED
      compress_model_request {
        method: METHOD_ANCHORED encoding: ENCODING_PIVOTED allocation: ALLOCATION_RELATIVE_TAILS keep_ratios: 0.8
        output_format: OUTPUT_FORMAT_FACTORED
        calibration { samples: 8 seq_len: 64
          sources { text { uri: 'file:///w' } weight: 1.5 }
          sources { model_samples: true weight: 0.5 } } })"));
  EXPECT_THAT(text, HasSubstr("ANCHORED, PIVOTED, RELATIVE_TAILS ranks, keep ratio 0.8, FACTORED, "
                              "calibrated on 8 × 64 tokens of 75 % file:///w, 25 % samples of the "
                              "model's own\n"));
}

TEST(TextOutputTest, SummaryOfAnEvaluation) {
  const std::string text = JobSummary(Parse<v1::Job>(R"(
      name: 'jobs/8' state: JOB_STATE_SUCCEEDED evaluate_result { model { parameters: 1000 weight_bytes: 2000
        perplexities { name: 'wiki' perplexity: 21.5 windows: 16 predicted_tokens: 8176
                       tokens_per_second: 1234.5 seconds: 6.6 log_std_error: 0.1 } }
        report_uri: 'file:///r' })"));
  EXPECT_THAT(text, HasSubstr("1,000 parameters, 2.00 kB\n"));
  EXPECT_THAT(text, HasSubstr("text    perplexity  windows  tokens scored  time\n"
                              "wiki  21.50 ± 2.15       16          8,176  6.6s\n"));
  EXPECT_THAT(text, HasSubstr("report: file:///r\n"));
  EXPECT_THAT(text, Not(HasSubstr("ACCEPTED")));
}

TEST(TextOutputTest, AnEvaluationBesideItsBaseline) {
  const v1::Job job = Parse<v1::Job>(R"(
      name: 'jobs/8' state: JOB_STATE_SUCCEEDED evaluate_result {
        model { parameters: 800 weight_bytes: 1600 perplexities { name: 'wiki' perplexity: 30 }
          tasks { name: 'obqa' task: 'openbookqa' items: 500
                  metrics { name: 'acc' value: 0.15 std_error: 0.016 }
                  metrics { name: 'acc_norm' value: 0.3 } } }
        baseline { parameters: 1000 weight_bytes: 2000 perplexities { name: 'wiki' perplexity: 20 }
          tasks { name: 'obqa' task: 'openbookqa' items: 500
                  metrics { name: 'acc' value: 0.19 std_error: 0.018 }
                  metrics { name: 'acc_norm' value: 0.32 } } }
        verdict { accepted: false regressions: 'obqa: acc fell' warnings: 'obqa: doubtful' }
        comparisons { name: 'wiki' metric: 'perplexity' baseline: 20 value: 30 change: 0.5
                      std_error: 0.012 limit: 0.6 accepted: true }
        comparisons { name: 'obqa' metric: 'acc' baseline: 0.19 value: 0.15 change: -0.04
                      std_error: 0.016 limit: 0.02 }
        comparisons { name: 'obqa' metric: 'acc_norm' baseline: 0.32 value: 0.3 change: -0.02
                      accepted: true }
        warnings: 'destroyed: wiki' })");
  const std::string text = JobSummary(job);
  EXPECT_THAT(text, HasSubstr("jobs/8 succeeded\n\n"
                              "REJECTED: 1 of 2 figures\n"
                              "  obqa: acc fell\n"
                              "warning: obqa: doubtful\n"
                              "warning: destroyed: wiki\n\n"
                              "800 parameters"));
  EXPECT_THAT(text,
              HasSubstr("figure  metric      baseline  after  change ± error  limit\n"
                        "wiki    perplexity     20.00  30.00  +50 % ± 1.2 %   +60 %\n"
                        "obqa    acc            0.190  0.150  -0.040 ± 0.016  -0.02  REJECTED\n"
                        "obqa    acc_norm       0.320  0.300  -0.020          -\n"));
  EXPECT_THAT(text, HasSubstr("800 parameters, 1.60 kB (baseline: 1,000 parameters, 2.00 kB)\n"));
  EXPECT_THAT(text, HasSubstr("wiki  baseline       20.00"));
  EXPECT_THAT(text, HasSubstr("wiki  this           30.00"));
  EXPECT_THAT(text, HasSubstr("task  items  metric         baseline           this\n"));
  EXPECT_THAT(text, HasSubstr("obqa    500  acc       0.190 ± 0.018  0.150 ± 0.016\n"));
  EXPECT_THAT(text, HasSubstr("obqa    500  acc_norm          0.320          0.300\n"));
  EXPECT_EQ(ExitStatusOf(job), kExitRegressed);
}

TEST(TextOutputTest, TasksOfACompressionStandBesideThoseOfTheDenseModel) {
  const std::string text = JobSummary(Parse<v1::Job>(R"(
      name: 'jobs/8' state: JOB_STATE_SUCCEEDED compress_model_result {
        tasks { name: 'piqa' items: 9 metrics { name: 'acc' value: 0.5 } }
        artifacts { keep_ratio: 0.8 tasks { name: 'piqa' items: 9 metrics { name: 'acc' value: 0.4 } } } })"));
  EXPECT_THAT(text, HasSubstr("task  items  metric  dense  keep 0.8\n"));
  EXPECT_THAT(text, HasSubstr("piqa      9  acc     0.500     0.400\n"));
}

// As if every round had been within a hundredth of the median, but for decode of the second batch
// size.
std::string SpeedOf(double prefill, double decode) {
  const auto rate = [](const char* name, double median, double factor) {
    return absl::StrCat(name, "_tokens_per_second: ", median, " least_", name,
                        "_tokens_per_second: ", median / factor, " largest_", name,
                        "_tokens_per_second: ", median * factor, " ");
  };
  return absl::StrCat(
      "throughputs { batch_size: 1 prompt_tokens: 512 new_tokens: 32 repetitions: 3 ",
      rate("prefill", prefill, 1.01), rate("decode", 40, 1.01),
      "peak_memory_bytes: 600000000 } throughputs { batch_size: 8 prompt_tokens: "
      "512 new_tokens: 32 repetitions: 3 ",
      rate("prefill", 1500, 1.01), rate("decode", decode, 2), "peak_memory_bytes: 700000000 }");
}

TEST(TextOutputTest, SpeedStandsBesideTheBaselines) {
  const std::string own =
      "name: 'jobs/8' state: JOB_STATE_SUCCEEDED evaluate_result { peak_device_bytes: "
      "1500000000 model { " +
      SpeedOf(1200, 333) + " }";
  const std::string beside =
      JobSummary(Parse<v1::Job>(own + "baseline { " + SpeedOf(1000, 222) + " } }"));
  EXPECT_THAT(beside, HasSubstr("(on the device 1.50 GB)"));
  for (const char* shown :
       {"1000 (990 to 1010)", "1200 (1188 to 1212)  × 1.2  ", "40 (39.6 to 40.4)",
        "alike: × 0.98 to × 1.02", "333 (166 to 666)  unsteady: × 0.375 to × 6",
        "(prompts of 512 tokens, 32 new ones each; medians of 3 rounds, with the least and the "
        "largest)\n"}) {
    EXPECT_THAT(beside, HasSubstr(shown));
  }
  const std::string alone = JobSummary(Parse<v1::Job>(own + "}"));
  EXPECT_THAT(alone, HasSubstr("batch     prefill tokens/s    decode tokens/s  peak memory\n"));
  EXPECT_THAT(alone, Not(HasSubstr("×")));
  const std::string compressed = JobSummary(Parse<v1::Job>(
      "name: 'jobs/8' state: JOB_STATE_SUCCEEDED compress_model_result { " + SpeedOf(1000, 222) +
      " artifacts { keep_ratio: 0.8 " + SpeedOf(1300, 0.25) + "} }"));
  EXPECT_THAT(compressed, HasSubstr("1300 (1287 to 1313)  × 1.3"));
}

TEST(TextOutputTest, ChangesOfACompressionHaveTheirErrors) {
  const std::string text = JobSummary(Parse<v1::Job>(R"(
      name: 'jobs/8' state: JOB_STATE_SUCCEEDED compress_model_result {
        perplexities { name: 'wiki' perplexity: 5 }
        artifacts { keep_ratio: 0.8 perplexities { name: 'wiki' perplexity: 5.5 }
          comparisons { name: 'wiki' metric: 'perplexity' baseline: 5 value: 5.5 change: 0.1
                        std_error: 0.005 accepted: true } }
        artifacts { keep_ratio: 0.1 perplexities { name: 'wiki' perplexity: 5000 }
          comparisons { name: 'wiki' metric: 'perplexity' baseline: 5 value: 5000 change: 999
                        std_error: 50 accepted: true }
          warnings: 'destroyed: wiki' } })"));
  EXPECT_THAT(text, HasSubstr("succeeded\n\nwarning: keep 0.1: destroyed: wiki\n\nkeep ratio"));
  EXPECT_THAT(text, HasSubstr("model     figure  metric      dense  after  change ± error\n"
                              "keep 0.8  wiki    perplexity   5.00   5.50  +10 % ± 0.5 %\n"));
  EXPECT_THAT(text, HasSubstr("× 1000 ± 50"));
}

TEST(TextOutputTest, DetailsOfAJobThatRuns) {
  const std::string text = JobDetails(Parse<v1::Job>(R"(
      name: 'jobs/9' kind: JOB_KIND_EVALUATE state: JOB_STATE_RUNNING attempt: 2 max_attempts: 3
      labels { key: 'team' value: 'x' } start_time { seconds: 100 }
      evaluate_request { model: 'file:///m' tasks { name: 'perplexity' dataset { uri: 'file:///d' } } }
      attempts { number: 1 outcome: 'lost' error { reason: 'WORKER_DIED' message: 'signal 9' } }
      progress { stage: 'evaluate' percent: 40 layers_done: 4 layers_total: 10 eta { seconds: 30 } })"));
  EXPECT_THAT(text, HasSubstr("state     RUNNING\n"));
  EXPECT_THAT(text, HasSubstr("tasks     perplexity on file:///d\n"));
  EXPECT_THAT(text, HasSubstr("attempt   2 of at most 3\n"));
  EXPECT_THAT(text, HasSubstr("1: lost -, signal 9 (WORKER_DIED)"));
  EXPECT_THAT(text, HasSubstr("label     team=x\n"));
  EXPECT_THAT(text, HasSubstr("progress  40% evaluate, layer 4/10, ETA 30s\n"));
}

TEST(TextOutputTest, QueuedJobsSayWhereTheyStand) {
  const std::string text = JobDetails(Parse<v1::Job>(R"(
      name: 'jobs/7' state: JOB_STATE_QUEUED queue_position: 3 display_name: 'nightly'
      evaluate_request { model: 'file:///m' })"));
  EXPECT_THAT(text, HasSubstr("state    QUEUED, number 3 in the queue\n"));
  EXPECT_THAT(text, HasSubstr("called   nightly\n"));
}

TEST(TextOutputTest, PlanIsAbridgedToKindsOfMatrices) {
  const std::string text = PlanText(Parse<v1::Job>(R"(
      compress_model_request { model: 'file:///m' }
      plan {
        parameters: 1000 target_parameters: 900 weight_bytes: 2000 scratch_bytes: 5000
        expected_time { seconds: 90 } least_time { seconds: 70 } most_time { seconds: 115 }
        peak_host_bytes: 37500000000 anonymous_host_bytes: 24000000000
        mapped_host_bytes: 13500000000 host_memory_bytes: 25300000000
        warnings: 'memory is tight' warnings: 'so is time' ranks_are_final: false
        artifacts { keep_ratio: 0.8 parameters: 830 weight_bytes: 1660 uri: 'file:///o/keep-0.80'
          matrices { name: 'model.layers.0.mlp.up_proj' rows: 96 cols: 64 rank: 30 }
          matrices { name: 'model.layers.1.mlp.up_proj' rows: 96 cols: 64 rank: 28 }
          matrices { name: 'model.layers.1.mlp.small' rows: 4 cols: 4 rank: 0 } }
        artifacts { keep_ratio: 0.6 parameters: 650 weight_bytes: 1300
          matrices { name: 'model.layers.0.mlp.up_proj' rows: 96 cols: 64 rank: 20 }
          matrices { name: 'model.layers.1.mlp.up_proj' rows: 96 cols: 64 rank: 20 }
          matrices { name: 'lm_head' rows: 9 cols: 9 rank: 2 } }
      })"));
  EXPECT_THAT(text, HasSubstr("mlp.up_proj       2      96 × 64        28–30           20\n"));
  EXPECT_THAT(text, HasSubstr("mlp.small         1        4 × 4        dense            -\n"));
  EXPECT_THAT(text, HasSubstr("lm_head           1        9 × 9            -            2\n"));
  EXPECT_THAT(text, HasSubstr("(named after the job)"));
  EXPECT_THAT(text, HasSubstr("about 1m30s (1m10s to 1m55s)\n"));
  EXPECT_THAT(text, HasSubstr("host memory          up to 37.5 GB of 25.3 GB\n"));
  EXPECT_THAT(text, HasSubstr("  of its own         24.0 GB\n"));
  EXPECT_THAT(text, HasSubstr("  the model's files  13.5 GB\n"));
  EXPECT_THAT(text, HasSubstr("\nwarning: memory is tight\nwarning: so is time\n"));
  EXPECT_THAT(text, HasSubstr("the uniform ones"));
}

TEST(TextOutputTest, PlanOfAnEvaluationIsWhatItTakes) {
  const std::string text = PlanText(Parse<v1::Job>(R"(
      evaluate_request { model: 'file:///m' }
      evaluation_plan { parameters: 1000 weight_bytes: 2000 peak_host_bytes: 5000000000
                        peak_device_bytes: 7000000000 })"));
  EXPECT_THAT(text, HasSubstr("nothing was started"));
  EXPECT_THAT(text, HasSubstr("model       1,000  2.00 kB\n"));
  EXPECT_THAT(text, HasSubstr("host memory    5.00 GB\n"));
  EXPECT_THAT(text, HasSubstr("device memory  7.00 GB\n"));
  EXPECT_THAT(text, Not(HasSubstr("baseline")));
}

TEST(TextOutputTest, ServerInfoNamesDevicesAndWhatJobsMayUseOfThem) {
  const std::string text = ServerInfoText(Parse<v1::ServerInfo>(R"(
      version: '1.2.3'
      devices { name: 'cuda:0' description: 'NVIDIA H100' memory_bytes: 80000000000
                memory_limit_bytes: 16000000000 }
      devices { name: 'cpu' description: 'a processor' memory_bytes: 8000000000
                memory_limit_bytes: 8000000000 })"));
  EXPECT_THAT(text, HasSubstr("cuda:0: NVIDIA H100, 80.0 GB, of which jobs may use 16.0 GB\n"));
  EXPECT_THAT(text, HasSubstr("cpu: a processor, 8.00 GB\n"));
}

TEST(JsonOutputTest, ErrorsHaveNoControlCharacters) {
  EXPECT_THAT(ErrorToJson(absl::InternalError("\u009b2J\x7f\x1b")),
              HasSubstr("\"\\u009b2J\\u007f\\u001b\""));
}

TEST(JsonOutputTest, ErrorsWithInvalidTextAreJsonStill) {
  EXPECT_THAT(ErrorToJson(absl::InternalError("\xff")), HasSubstr("\"code\": \"INTERNAL\""));
}

TEST(JsonOutputTest, OneLineIsOneLine) {
  const std::string text = ToJson(v1::Job(), JsonLayout::kOneLine);
  EXPECT_EQ(text.find('\n'), text.size() - 1);
  EXPECT_THAT(text, HasSubstr("\"state\":\"JOB_STATE_UNSPECIFIED\""));
}

}  // namespace
}  // namespace svdllm::cli
