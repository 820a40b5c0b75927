#include "evaluate/throughput.h"

#include <gmock/gmock.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>

#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

using ::testing::AllOf;
using ::testing::Ge;
using ::testing::HasSubstr;
using ::testing::Le;
using ::testing::Not;
using Json = nlohmann::json;

ThroughputSpec Speed(std::vector<int64_t> batch_sizes) {
  ThroughputSpec spec;
  spec.batch_sizes = std::move(batch_sizes);
  spec.prompt_tokens = 12;
  spec.new_tokens = 5;
  spec.repetitions = 3;
  return spec;
}

TEST(SummarizeRates, TakesTheMiddle) {
  const RateSummary odd = SummarizeRates({5, 1, 3});
  EXPECT_EQ(odd.median, 3);
  EXPECT_EQ(odd.least, 1);
  EXPECT_EQ(odd.largest, 5);
  EXPECT_EQ(SummarizeRates({4, 1, 2, 8}).median, 3);
  EXPECT_EQ(SummarizeRates({2}).median, 2);
}

absl::StatusOr<ThroughputSpec> Resolved(const ThroughputSpec& spec, const ModelConfig& config) {
  return ResolveThroughput(spec, config, "throughput");
}

class ThroughputTest : public JobFixture {
 protected:
  void SetUp() override {
    JobFixture::SetUp();
    auto checkpoint = Checkpoint::Open(model_);
    ASSERT_OK(checkpoint);
    checkpoint_.emplace(*std::move(checkpoint));
    config_ = checkpoint_->config();  // 128 positions
  }
  absl::StatusOr<std::vector<ThroughputResult>> Measured(const ThroughputSpec& spec,
                                                         Backend& backend,
                                                         const RunHooks& hooks = {}) {
    Progress progress(hooks, ThroughputFlops(*checkpoint_, spec), config_.num_layers, &backend);
    progress.Enter("evaluate");
    return MeasureThroughput(*checkpoint_, spec, backend, progress);
  }
  EvaluateSpec Evaluation() {
    EvaluateSpec spec;
    spec.job_id = "job";
    spec.model_dir = spec.model_uri = model_;
    spec.measure.throughput = Speed({1, 3});
    spec.output_uri = *store_->ResolveOutput(Artifact("report"));
    spec.work_dir = dir_.File("work");
    return spec;
  }

  std::optional<Checkpoint> checkpoint_;
  ModelConfig config_;
};

TEST_F(ThroughputTest, DefaultsFitTheModel) {
  ThroughputSpec spec;
  EXPECT_FALSE(Resolved(spec, config_)->any());
  spec.batch_sizes = {8, 1, 2};
  const auto resolved = Resolved(spec, config_);
  ASSERT_OK(resolved);
  EXPECT_EQ(resolved->batch_sizes, (std::vector<int64_t>{1, 2, 8}));
  EXPECT_EQ(resolved->prompt_tokens, 128 - 32);
  ModelConfig longer = config_;
  longer.max_position_embeddings = 4096;
  EXPECT_EQ(Resolved(spec, longer)->prompt_tokens, 512);
  const auto again = Resolved(*resolved, config_);
  ASSERT_OK(again);
  EXPECT_EQ(again->prompt_tokens, resolved->prompt_tokens);
  spec.new_tokens = 127;
  EXPECT_EQ(Resolved(spec, config_)->prompt_tokens, 1);
}

TEST_F(ThroughputTest, WhatIsWrongIsNamed) {
  const auto refused = [&](auto change, const std::string& field, const std::string& words) {
    ThroughputSpec spec = Speed({1});
    change(spec);
    EXPECT_STATUS(Resolved(spec, config_), kInvalidArgument, kInvalidField,
                  {"throughput." + field, words});
  };
  refused([](auto& s) { s.batch_sizes = {1, 0}; }, "batch_sizes", "0 is not 1 to 256");
  refused([](auto& s) { s.batch_sizes = {257}; }, "batch_sizes", "257 is not 1 to 256");
  refused([](auto& s) { s.batch_sizes = {4, 2, 4}; }, "batch_sizes", "4 is given twice");
  refused([](auto& s) { s.batch_sizes = {1, 2, 3, 4, 5, 6, 7, 8, 9}; }, "batch_sizes", "9");
  config_.max_position_embeddings = 1 << 20;
  refused(
      [](auto& s) {
        s.batch_sizes = {2, 256}, s.prompt_tokens = 4097;
      },
      "batch_sizes", "256 prompts of 4097 tokens are more than 1048576");
  config_.max_position_embeddings = 128;
  refused([](auto& s) { s.new_tokens = 1; }, "new_tokens", "1 is not 2 to");
  refused([](auto& s) { s.repetitions = 0; }, "repetitions", "0 is not 1 to");
  refused([](auto& s) { s.prompt_tokens = -1; }, "prompt_tokens", "-1");
  refused([](auto& s) { s.prompt_tokens = 124; }, "prompt_tokens", "128");
  refused([](auto& s) { s.prompt_tokens = 0, s.new_tokens = 128; }, "prompt_tokens", "128");
  EXPECT_OK(Resolved(
      [] {
        auto s = Speed({1});
        s.prompt_tokens = 123;
        return s;
      }(),
      config_));
  config_.rope.kind = RopeKind::kDynamic;
  config_.rope.original_max_position_embeddings = 14;  // longer sequences have other frequencies
  refused([](auto&) {}, "prompt_tokens", "rotary frequencies change between 12 tokens and the 16");
}

TEST_F(ThroughputTest, RoundsCountTheirTokens) {
  auto decoder = Decoder::Load(*checkpoint_, *backend_);
  ASSERT_OK(decoder);
  const auto start = std::chrono::steady_clock::now();
  const auto round = RunThroughputRound(**decoder, config_, 3, 12, 5);
  ASSERT_OK(round);
  const double all =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // 36 prompt tokens and 12 new ones at these rates take no longer than the call did.
  EXPECT_GT(round->prefill, 0);
  EXPECT_GT(round->decode, 0);
  EXPECT_LE(36 / round->prefill + 12 / round->decode, all);
  // The last token is chosen only.
  EXPECT_EQ((*decoder)->lengths(), (std::vector<int64_t>(3, 12 + 4)));
}

TEST_F(ThroughputTest, EveryBatchSizeHasItsFigures) {
  std::vector<std::string> messages;
  double percent = 0;
  int64_t checks = 0;
  RunHooks hooks;
  hooks.on_progress = [&](const ProgressEvent& progress) {
    messages.push_back(progress.message);
    EXPECT_GE(progress.percent, percent);
    percent = progress.percent;
  };
  hooks.check = [&] {
    ++checks;
    return absl::OkStatus();
  };
  const auto results = Measured(Speed({1, 4}), *backend_, hooks);
  ASSERT_OK(results);
  ASSERT_EQ(results->size(), 2u);
  const int64_t weights =
      4 * (checkpoint_->parameters() - config_.vocab_size * config_.hidden_size);
  const int64_t cache = 4 * 2 * config_.num_layers * 8 * (12 + 4);
  for (const ThroughputResult& result : *results) {
    EXPECT_EQ(result.prompt_tokens, 12);
    EXPECT_EQ(result.new_tokens, 5);
    EXPECT_EQ(result.repetitions, 3);
    EXPECT_GT(result.seconds, 0);
    for (const RateSummary& rate : {result.prefill, result.decode}) {
      EXPECT_GT(rate.least, 0);
      EXPECT_THAT(rate.median, AllOf(Ge(rate.least), Le(rate.largest)));
    }
    EXPECT_GE(result.peak_memory_bytes, weights + result.batch_size * cache);
  }
  EXPECT_EQ((*results)[0].batch_size, 1);
  EXPECT_EQ((*results)[1].batch_size, 4);
  EXPECT_GE((*results)[1].peak_memory_bytes, (*results)[0].peak_memory_bytes + 3 * cache);
  EXPECT_NEAR(percent, 100, 1e-6);
  ASSERT_EQ(messages.size(), 2u * (1 + 3));
  EXPECT_THAT(messages[0], HasSubstr("batch size 1, warm-up"));
  EXPECT_THAT(messages[7], HasSubstr("batch size 4, round 3 of 3"));
  EXPECT_GE(checks, 2 * 4 * 5);  // at least once a step
}

TEST_F(ThroughputTest, ABatchThatDoesNotFitIsNamed) {
  ASSERT_OK(Measured(Speed({16}), *backend_));
  const std::unique_ptr<Backend> small = NewCpuBackend(1, backend_->Memory().peak);
  EXPECT_STATUS(Measured(Speed({1, 256}), *small), kResourceExhausted, kHostOutOfMemory,
                {"throughput: batch size 256"});
  EXPECT_EQ(small->Memory().now, 0);
  EXPECT_OK(Measured(Speed({1}), *small));  // the backend is as good as before
  const std::unique_ptr<Backend> smaller = NewCpuBackend(1, 4096);
  EXPECT_STATUS(Measured(Speed({1}), *smaller), kResourceExhausted, kHostOutOfMemory,
                {"throughput: loading the model"});
}

TEST_F(ThroughputTest, EndsWithTheCheck) {
  int64_t left = 30;
  RunHooks hooks;
  hooks.check = [&] { return --left > 0 ? absl::OkStatus() : absl::CancelledError("asked to"); };
  EXPECT_STATUS(Measured(Speed({1, 2}), *backend_, hooks), kCancelled, "", {"asked to"});
}

TEST_F(ThroughputTest, AnEvaluationOfSpeedAlone) {
  EvaluateSpec spec = Evaluation();
  testing::TinyCheckpointOptions options;
  options.max_position_embeddings = 14;  // shorter than the model's
  spec.baseline_dir = spec.baseline_uri = dir_.File("baseline");
  testing::WriteTinyCheckpoint(spec.baseline_dir, options);
  EXPECT_STATUS(testing::PlanEvaluate(spec), kInvalidArgument, kInvalidField,
                {"baseline", "throughput.prompt_tokens"});
  spec.measure.throughput.prompt_tokens = 0;
  EXPECT_OK(testing::PlanEvaluate(spec));
  const auto result = testing::RunEvaluate(spec, *backend_, *store_, {});
  ASSERT_OK(result);
  ASSERT_EQ(result->model.figures.throughputs.size(), 2u);
  ASSERT_EQ(result->baseline->figures.throughputs.size(), 2u);
  EXPECT_EQ(result->model.figures.throughputs[1].prompt_tokens, 9) << "both get the same prompts";
  EXPECT_EQ(result->peak_device_bytes, 0);
  const Json report = Json::parse(*ReadFile(Artifact("report/evaluation_report.json")));
  const Json& entry = report["model"]["throughputs"][1];
  EXPECT_EQ(entry["batch_size"], 3);
  EXPECT_EQ(entry["decode_tokens_per_second"]["median"],
            result->model.figures.throughputs[1].decode.median);
  const std::string html = *ReadFile(Artifact("report/report.html"));
  EXPECT_THAT(html, HasSubstr("decode, tokens/s"));
  EXPECT_THAT(html, HasSubstr("one model after the other"));

  // An attempt that died behind its publication.
  spec.attempt = 2;
  RunHooks never;
  never.check = [] { return absl::CancelledError("not to be run again"); };
  const auto again = testing::RunEvaluate(spec, *backend_, *store_, never);
  ASSERT_OK(again);
  ASSERT_EQ(again->baseline->figures.throughputs.size(), 2u);
  EXPECT_EQ(again->model.figures.throughputs[1].prefill.largest,
            result->model.figures.throughputs[1].prefill.largest);
  EXPECT_EQ(again->model.figures.throughputs[0].peak_memory_bytes,
            result->model.figures.throughputs[0].peak_memory_bytes);
}

TEST_F(ThroughputTest, ACompressionsCardHasItsSpeed) {
  CompressSpec spec = Spec("fast");
  spec.measure.throughput = Speed({2, 1});
  spec.measure.throughput.prompt_tokens = 0;
  const auto plan = testing::PlanCompress(spec);
  ASSERT_OK(plan);
  EXPECT_EQ(plan->prompt_tokens, 128 - 5);
  const auto result = Run(spec);
  ASSERT_OK(result);
  ASSERT_EQ(result->before.throughputs.size(), 2u);
  ASSERT_EQ(result->artifacts[0].figures.throughputs.size(), 2u);
  EXPECT_EQ(result->before.throughputs[0].batch_size, 1);
  EXPECT_EQ(result->before.throughputs[0].prompt_tokens, 128 - 5);
  EXPECT_LT(result->artifacts[0].figures.throughputs[0].peak_memory_bytes,
            result->before.throughputs[0].peak_memory_bytes)
      << "half of the linear layers";
  const std::string card = *ReadFile(Artifact("fast/README.md"));
  EXPECT_THAT(card, HasSubstr("## Speed"));
  EXPECT_THAT(card, HasSubstr("| 2 | decode, tokens per second | "));
  EXPECT_THAT(card, HasSubstr("prompts of 123 tokens, 5 new tokens each"));
  EXPECT_THAT(card, HasSubstr("On " + result->device));
  EXPECT_THAT(card, Not(HasSubstr("\n| prefill, tokens per second |")))
      << "the one of the texts, which counts reading the weights";
  const Json report = Json::parse(*ReadFile(Artifact("fast/compression_report.json")));
  EXPECT_EQ(report["before"]["throughputs"][0]["prefill_tokens_per_second"]["least"],
            result->before.throughputs[0].prefill.least);

  spec.attempt = 2;
  const auto again = Run(spec);
  ASSERT_OK(again);
  EXPECT_EQ(again->before.throughputs[1].decode.median,
            result->before.throughputs[1].decode.median);
  EXPECT_EQ(again->artifacts[0].figures.throughputs[0].prefill.least,
            result->artifacts[0].figures.throughputs[0].prefill.least);
  spec.measure.throughput.batch_sizes = {0};
  EXPECT_STATUS(testing::PlanCompress(spec), kInvalidArgument, kInvalidField,
                {"evaluation.throughput.batch_sizes"});
}

}  // namespace
}  // namespace svdllm
