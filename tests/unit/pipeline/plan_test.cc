#include "pipeline/plan.h"

#include <gmock/gmock.h>

#include <cmath>

#include "pipeline/estimate.h"
#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class PlanTest : public JobFixture {};

TEST_F(PlanTest, PredictsWhatTheRunDoes) {
  CompressSpec spec = Spec("plan");
  spec.keep_ratios = {0.5, 0.8};
  const auto plan = testing::PlanCompress(spec);
  ASSERT_OK(plan);
  const auto result = Run(spec);
  ASSERT_OK(result);
  EXPECT_EQ(plan->parameters, result->parameters);
  EXPECT_EQ(plan->target_parameters, result->target_parameters);
  ASSERT_EQ(plan->artifacts.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(plan->artifacts[i].parameters, result->artifacts[i].parameters);
    EXPECT_EQ(plan->artifacts[i].weight_bytes, result->artifacts[i].weight_bytes);
    for (size_t m = 0; m < plan->artifacts[i].matrices.size(); ++m) {
      EXPECT_EQ(plan->artifacts[i].matrices[m].rank, result->artifacts[i].matrices[m].rank);
    }
  }
  EXPECT_GT(plan->host.anonymous, 0);
  EXPECT_GE(plan->host.mapped, plan->weight_bytes);
  EXPECT_GT(plan->work, 0);
  EXPECT_EQ(plan->work, result->planned_work) << "what later plans are corrected by";
  EXPECT_TRUE(plan->ranks_are_final);
}

TEST_F(PlanTest, RefusesWithTheFieldsName) {
  const auto refused = [this](auto change, const char* field) {
    CompressSpec spec = Spec("x");
    change(spec);
    EXPECT_STATUS(testing::PlanCompress(spec), kInvalidArgument, kInvalidField, {field});
  };
  refused([](CompressSpec& s) { s.keep_ratios = {}; }, "keep_ratios");
  refused([](CompressSpec& s) { s.keep_ratios = {0}; }, "keep_ratios");
  refused([](CompressSpec& s) { s.keep_ratios = {1.5}; }, "keep_ratios");
  refused([](CompressSpec& s) { s.keep_ratios = {std::nan("")}; }, "keep_ratios");
  refused([](CompressSpec& s) { s.keep_ratios = {0.5, 0.5}; }, "keep_ratios");
  refused([](CompressSpec& s) { s.calibration.samples = 0; }, "calibration.samples");
  refused([](CompressSpec& s) { s.calibration.seq_len = 1; }, "calibration.seq_len");
  refused([](CompressSpec& s) { s.calibration.seq_len = 129; }, "max_position_embeddings");
  refused([](CompressSpec& s) { s.asvd_alpha = 2; }, "asvd_alpha");
  refused([](CompressSpec& s) { s.anchor_blend = -0.1; }, "anchor_blend");
  refused([](CompressSpec& s) { s.anchor_ridge = std::nan(""); }, "anchor_ridge");
  refused([](CompressSpec& s) { s.rank_multiple = 0; }, "rank_multiple");
  refused([](CompressSpec& s) { s.min_keep_ratio = 1; }, "min_keep_ratio");
  const auto above = [](CompressSpec& s) {
    s.min_keep_ratio = 0.6;
    s.allocation = Allocation::kRelativeTails;
  };
  refused(above, "min_keep_ratio: 0.6 is above the keep ratio 0.5");
  refused([](CompressSpec& s) { s.calibration.sources.clear(); }, "calibration.sources");
  refused([](CompressSpec& s) { s.calibration.sources[0].weight = 0; },
          "calibration.sources[0].weight");
  refused([](CompressSpec& s) { s.calibration.sources.emplace_back(); }, "calibration.sources[1]");
  refused([](CompressSpec& s) { s.calibration.sources[0].model_samples = true; },
          "calibration.sources[0]");
  refused([](CompressSpec& s) { s.calibration.sources.resize(7, s.calibration.sources[0]); },
          "calibration.samples: 6 are fewer than the 7 sources");
  refused([this](CompressSpec& s) { s.measure.texts = {{"", {text_}}}; }, "evaluation");
  refused(
      [this](CompressSpec& s) {
        s.measure.texts = {{"a", {text_}}, {"a", {text_}}};
      },
      "evaluation: a");
  refused(
      [this](CompressSpec& s) {
        s.measure.texts = {{"held_out_perplexity_x", {text_}}};
      },
      "evaluation: held_out_perplexity_x");
  refused(
      [this](CompressSpec& s) {
        s.measure.texts = {{"a", {text_}, 129}};
      },
      "evaluation: a: seq_len: 129");
}

TEST_F(PlanTest, DefaultsFollowTheModel) {
  CompressSpec spec = Spec("d");
  spec.calibration.seq_len = 0;
  const auto plan = testing::PlanCompress(spec);
  ASSERT_OK(plan);
  EXPECT_EQ(plan->calibration.seq_len, 128) << "the tiny model's positions, fewer than 2048";
  EXPECT_EQ(plan->calibration.window_start, WindowStart::kText);
  spec.measure.texts = {{"a", {text_}}, {"b", {text_}, 32}};
  spec.measure.texts[1].window_start = WindowStart::kWindow;
  spec.calibration.sources[0].text.packing = Packing::kDocuments;
  const auto texts = testing::PlanCompress(spec);
  ASSERT_OK(texts);
  EXPECT_FALSE(texts->calibration.window_start.has_value()) << "documents are no windows";
  ASSERT_EQ(texts->texts.size(), 2u);
  EXPECT_EQ(texts->texts[0].seq_len, 128);
  EXPECT_EQ(texts->texts[0].window_start, WindowStart::kText);
  EXPECT_EQ(texts->texts[1].seq_len, 32);
  EXPECT_EQ(texts->texts[1].window_start, WindowStart::kWindow);
}

TEST_F(PlanTest, WindowsBeginAsTheFamilyNeedsIt) {
  for (const auto& [name, options] : testing::TinyFamilies()) {
    const std::string& family = options.family;
    const std::string model = dir_.File(name);
    testing::WriteTinyCheckpoint(model, options);
    CompressSpec spec = Spec(name);
    spec.model_dir = model;
    spec.calibration.seq_len = 0;
    spec.measure.texts = {{"a", {text_}, 16}};
    const auto plan = testing::PlanCompress(spec);
    ASSERT_TRUE(plan.ok()) << name << ": " << plan.status();
    const WindowStart expected =
        family.rfind("gemma", 0) == 0 ? WindowStart::kWindow : WindowStart::kText;
    EXPECT_EQ(plan->calibration.window_start, expected) << family;
    EXPECT_EQ(plan->texts.at(0).window_start, expected) << family;
    // A baseline of another family is measured on the same windows.
    EvaluateSpec evaluate;
    evaluate.model_dir = model_;
    evaluate.baseline_dir = model;
    evaluate.measure.texts = spec.measure.texts;
    EXPECT_EQ(testing::PlanEvaluate(evaluate)->texts.at(0).window_start, WindowStart::kText);
    std::swap(evaluate.model_dir, evaluate.baseline_dir);
    EXPECT_EQ(testing::PlanEvaluate(evaluate)->texts.at(0).window_start, expected);
  }
}

TEST_F(PlanTest, BothModelsOfAnEvaluationGetTheSameWindows) {
  const std::string shorter = dir_.File("shorter");
  testing::TinyCheckpointOptions options;
  options.max_position_embeddings = 96;
  testing::WriteTinyCheckpoint(shorter, options);
  EvaluateSpec spec;
  spec.model_dir = model_;
  spec.baseline_dir = shorter;
  spec.measure.texts = {{"a", {text_}}};
  auto job = Resolve(spec);
  ASSERT_OK(job);
  EXPECT_EQ(job->model().measure.texts[0].seq_len, 96);
  EXPECT_EQ(job->baseline()->measure.texts[0].seq_len, 96);
  spec.measure.texts[0].seq_len = 100;
  EXPECT_STATUS(Resolve(spec), kInvalidArgument, kInvalidField, {"baseline", "a: seq_len: 100"});
}

TEST_F(PlanTest, CalibrationThatIsShortIsSaid) {
  CompressSpec spec = Spec("short");
  auto plan = testing::PlanCompress(spec);
  ASSERT_OK(plan);
  EXPECT_THAT(plan->warnings, IsEmpty());
  EXPECT_EQ(plan->calibration_sequences, 6);
  spec.calibration.samples = 2000;
  plan = testing::PlanCompress(spec);
  ASSERT_OK(plan);
  EXPECT_THAT(plan->warnings, ElementsAre(HasSubstr("they overlap")));
  // The run says the same, where its figures are.
  spec.calibration.samples = 400;
  plan = testing::PlanCompress(spec);
  const auto result = Run(spec);
  ASSERT_OK(result);
  EXPECT_THAT(plan->warnings, ElementsAre(HasSubstr("they overlap")));
  EXPECT_EQ(result->calibration.warnings, plan->warnings);
  EXPECT_EQ(result->calibration.sequences, plan->calibration_sequences);
  EXPECT_EQ(result->calibration.window_start, WindowStart::kText);
  for (const char* file : {"README.md", "report.html", "compression_report.json"}) {
    EXPECT_THAT(*ReadFile(Artifact("short/") + file), HasSubstr("they overlap")) << file;
  }
  ASSERT_EQ(result->calibration.data.size(), 1u);
  EXPECT_EQ(result->calibration.data[0].uri, text_);
  EXPECT_THAT(*ReadFile(Artifact("short/compression_report.json")),
              HasSubstr(Sha256(*ReadFile(text_))));
}

// A job that could not start is not taken.
TEST_F(PlanTest, TextsAndTokenizersThatEndAJobAreRefused) {
  CompressSpec spec = Spec("refused");
  spec.calibration.sources = {{{dir_.Write("few.txt", "few")}}};
  EXPECT_STATUS(testing::PlanCompress(spec), kInvalidArgument, kCalibrationInvalid,
                {"few.txt has 4 tokens, fewer than one sequence of 64"});
  spec = Spec("refused");
  spec.measure.texts = {{"a", {dir_.Write("a.txt", "PAR1\x15\x04")}, 32}};
  EXPECT_STATUS(testing::PlanCompress(spec), kInvalidArgument, kDatasetInvalid,
                {"a: ", "a.txt", "Parquet"});
  EvaluateSpec evaluate;
  evaluate.model_dir = model_;
  evaluate.measure.texts = spec.measure.texts;
  EXPECT_STATUS(testing::PlanEvaluate(evaluate), kInvalidArgument, kDatasetInvalid,
                {"a: ", "a.txt", "Parquet"});
  evaluate.measure.texts[0].text.path = text_;
  EXPECT_OK(testing::PlanEvaluate(evaluate));
  ASSERT_EQ(std::remove((model_ + "/tokenizer.json").c_str()), 0);
  EXPECT_STATUS(testing::PlanEvaluate(evaluate), kNotFound, kModelNotFound, {"tokenizer.json"});
  EXPECT_STATUS(testing::PlanCompress(Spec("x")), kNotFound, kModelNotFound, {"tokenizer.json"});
}

TEST_F(PlanTest, SvdNeedsNoText) {
  CompressSpec spec = Spec("svd");
  spec.method = Method::kSvd;
  const auto with = Run(spec);
  ASSERT_OK(with);
  EXPECT_EQ(with->calibration.sequences, 0) << "nothing reads any";
  EXPECT_EQ(with->before.perplexities.at(0).windows, kHeldOutWindows);
  EXPECT_THAT(*ReadFile(Artifact("svd/report.html")), ::testing::Not(HasSubstr("calibrated on")));
  spec = Spec("alone");
  spec.method = Method::kSvd;
  spec.calibration = {};
  for (const Allocation allocation : {Allocation::kUniform, Allocation::kRelativeTails}) {
    spec.allocation = allocation;
    const auto plan = testing::PlanCompress(spec, {.memory_bytes = int64_t{1} << 34});
    ASSERT_OK(plan);
    EXPECT_GT(plan->work, 0);
    EXPECT_EQ(plan->calibration_sequences, 0);
    EXPECT_THAT(plan->warnings, IsEmpty());
  }
  spec.allocation = Allocation::kUniform;
  const auto alone = Run(spec);
  ASSERT_OK(alone);
  EXPECT_THAT(alone->before.perplexities, IsEmpty());
  const std::string weights = "/model-00001-of-00001.safetensors";
  EXPECT_EQ(DigestOfFile(Artifact("alone") + weights)->sha256,
            DigestOfFile(Artifact("svd") + weights)->sha256);
  // Its text is still asked for where ranks are probed on it, and by every other method.
  spec.allocation = Allocation::kKlProbe;
  EXPECT_STATUS(testing::PlanCompress(spec), kInvalidArgument, kInvalidField,
                {"calibration.sources", "svd", "kl_probe"});
  spec.allocation = Allocation::kUniform;
  spec.method = Method::kAsvd;
  EXPECT_STATUS(testing::PlanCompress(spec), kInvalidArgument, kInvalidField,
                {"calibration.sources", "asvd"});
}

TEST_F(PlanTest, TheModelsOwnSamplesCost) {
  CompressSpec spec = Spec("s");
  spec.calibration.samples = 1000;
  const double without = testing::PlanCompress(spec)->work;
  spec.calibration.sources = {{{}, true}};
  EXPECT_GT(testing::PlanCompress(spec)->work, 1.2 * without);
}

TEST(EstimateTime, ABusyProcessorWidensTheRangeUpwards) {
  CompressPlan idle;
  idle.work = 1e12;
  CompressPlan busy = idle, noisy = idle;
  EstimateTime({2e11, 2e11}, idle);
  EstimateTime({2e11, 1.9e11}, noisy);
  EstimateTime({2e11, 0.5e11}, busy);
  EXPECT_NEAR(idle.expected_seconds, 0.5 + 5 / 0.82, 1e-9);
  EXPECT_NEAR(idle.most_seconds / idle.expected_seconds, 1.5, 1e-9);
  EXPECT_NEAR(idle.expected_seconds / idle.least_seconds, 1.5, 1e-9);
  EXPECT_EQ(noisy.most_seconds, idle.most_seconds);
  EXPECT_EQ(busy.least_seconds, idle.least_seconds);
  EXPECT_NEAR(busy.most_seconds, 4 * idle.most_seconds, 1e-9);
  EXPECT_NEAR(busy.expected_seconds, std::sqrt(busy.least_seconds * busy.most_seconds), 1e-9);
}

TEST(EstimateTime, FinishedJobsOfTheSameSizeSayMoreThanTheProcessor) {
  CompressPlan plan;
  plan.work = 1e12;
  EstimateTime({2e11, 2e11}, plan);
  const CompressPlan measured = plan;
  CorrectTime({}, plan);
  EXPECT_EQ(plan.expected_seconds, measured.expected_seconds);
  // A job of a thousandth of the work says nothing, and neither does one that took no time.
  CorrectTime(std::vector<FinishedWork>{{1e9, 100}, {1e12, 0}, {0, 1}}, plan);
  EXPECT_EQ(plan.expected_seconds, measured.expected_seconds);
  CorrectTime(std::vector<FinishedWork>{{1e9, 100}, {2e12, 18}}, plan);
  EXPECT_NEAR(plan.expected_seconds, 9, 1e-9);
  EXPECT_NEAR(plan.most_seconds / plan.least_seconds, 1.25 * 1.25, 1e-9);
  // Where jobs differ, the range does; the middle one is what is expected.
  CorrectTime(std::vector<FinishedWork>{{1e12, 8}, {1e12, 10}, {1e12, 40}}, plan);
  EXPECT_NEAR(plan.expected_seconds, 10, 1e-9);
  EXPECT_NEAR(plan.most_seconds, 40, 1e-9);
  // The nearest five count, and of equals the latest, which come first.
  std::vector<FinishedWork> many(5, {1e12, 5});
  many.resize(20, {1e12, 500});
  CorrectTime(many, plan);
  EXPECT_NEAR(plan.expected_seconds, 5, 1e-9);
  // Nothing but finished jobs tells how fast a device is.
  CompressPlan device;
  device.work = 1e12;
  CorrectTime(many, device);
  EXPECT_NEAR(device.expected_seconds, 5, 1e-9);
}

TEST(MeasureRate, IsRememberedAndNeverFasterThanItsBest) {
  const ProcessorRate rate = MeasureRate();
  EXPECT_GT(rate.now, 1e8);
  EXPECT_GE(rate.best, rate.now);
  EXPECT_EQ(MeasureRate().now, rate.now) << "within seconds it is not measured again";
}

TEST_F(PlanTest, AnArtifactIsNotCompressedAgain) {
  ASSERT_OK(Run(Spec("once")));
  CompressSpec again = Spec("twice");
  again.model_dir = Artifact("once");
  EXPECT_STATUS(testing::PlanCompress(again), kInvalidArgument, kUnsupportedArchitecture,
                {"compressed already"});
}

TEST_F(PlanTest, EvaluateIsCheckedBeforehand) {
  EvaluateSpec spec;
  spec.model_dir = model_;
  PerplexitySpec task;
  task.name = "perplexity";
  task.text.path = text_;
  spec.measure.texts = {task};
  EXPECT_OK(testing::PlanEvaluate(spec));
  spec.measure.texts[0].text.path = dir_.File("none.txt");
  EXPECT_STATUS(testing::PlanEvaluate(spec), kNotFound, kDatasetInvalid,
                {"perplexity: ", "none.txt"});
  spec.measure.texts[0].text.path = text_;
  spec.measure.texts[0].seq_len = 4096;
  EXPECT_STATUS(testing::PlanEvaluate(spec), kInvalidArgument, kInvalidField,
                {"perplexity: seq_len"});
  spec.model_dir = dir_.File("nowhere");
  EXPECT_STATUS(testing::PlanEvaluate(spec), kNotFound, kModelNotFound, {"nowhere"});
}

}  // namespace
}  // namespace svdllm
