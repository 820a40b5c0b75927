// What an artifact may lose, and what is recorded of how it was measured.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

class ThresholdTest : public JobFixture {
 protected:
  static constexpr double kLimit = -0.05;
  CompressSpec Strict(const std::string& output) {
    CompressSpec spec = Spec(output);
    spec.keep_ratios = {1, 0.2};
    // Of a model of random weights, cutting lowers the perplexity, by 7 %: what is asked for is a
    // fall, so that the whole one fails and the other passes.
    spec.threshold.max_perplexity_increase = kLimit;
    return spec;
  }
};

TEST_F(ThresholdTest, RefusesAllWhereOneLosesTooMuch) {
  const auto result = Run(Strict("gate"));
  ASSERT_OK(result);
  ASSERT_EQ(result->artifacts.size(), 2u);
  const ArtifactResult &whole = result->artifacts[0], &cut = result->artifacts[1];
  EXPECT_FALSE(whole.verdict->accepted);
  EXPECT_TRUE(cut.verdict->accepted);
  ASSERT_EQ(cut.comparisons.size(), 1u);
  EXPECT_TRUE(cut.comparisons[0].is_perplexity());
  EXPECT_EQ(cut.comparisons[0].limit, kLimit);
  EXPECT_LT(cut.comparisons[0].change, kLimit);
  EXPECT_GT(cut.comparisons[0].std_error, 0);
  EXPECT_EQ(cut.comparisons[0].value, cut.figures.perplexities[0].perplexity);
  EXPECT_NEAR(whole.comparisons[0].change, 0, 1e-12);
  EXPECT_NEAR(whole.comparisons[0].std_error, 0, 1e-12);
  EXPECT_EQ(whole.uri, "");
  EXPECT_EQ(cut.uri, "");
  EXPECT_STATUS(CheckVerdicts(*result), kFailedPrecondition, kRegressed,
                {"keep ratio 1: held_out_perplexity: perplexity", "% higher", "1 of 2 artifacts",
                 "nothing was published"});
  for (const char* name : {"gate/keep-1.00", "gate/keep-0.20"}) {
    EXPECT_FALSE(testing::FileExists(Artifact(name))) << name;
  }
}

TEST_F(ThresholdTest, KeepsWhatIsRejectedWhereAsked) {
  CompressSpec spec = Strict("kept");
  spec.keep_rejected = true;
  const auto result = Run(spec);
  ASSERT_OK(result);
  EXPECT_STATUS(CheckVerdicts(*result), kFailedPrecondition, kRegressed,
                {"published nevertheless: ", "kept/keep-1.00", "kept/keep-0.2"});
  EXPECT_THAT(*ReadFile(Artifact("kept/keep-1.00/README.md")),
              HasSubstr("Rejected by its own job's threshold: held_out_perplexity"));
  // Whoever comes after a worker that died says the same.
  spec.attempt = 2;
  const auto again = Run(spec);
  ASSERT_OK(again);
  EXPECT_EQ(CheckVerdicts(*again).message(), CheckVerdicts(*result).message());
  EXPECT_EQ(again->artifacts[1].comparisons[0].std_error,
            result->artifacts[1].comparisons[0].std_error);
  EXPECT_EQ(again->artifacts[1].comparisons[0].limit, kLimit);
}

TEST_F(ThresholdTest, PassesWhatKeepsToIt) {
  CompressSpec spec = Strict("passed");
  spec.threshold.max_perplexity_increase = 1e9;
  const auto result = Run(spec);
  ASSERT_OK(result);
  EXPECT_OK(CheckVerdicts(*result));
  EXPECT_EQ(testing::ListDir(Artifact("passed")), "keep-0.20 keep-1.00");
  EXPECT_OK(CheckVerdicts(*Run(Spec("without"))));
}

TEST_F(ThresholdTest, NeedsSomethingThatIsMeasured) {
  CompressSpec spec = Strict("nothing");
  spec.evaluate_held_out = false;
  EXPECT_STATUS(Run(spec), kInvalidArgument, kInvalidField, {"threshold.max_perplexity_increase"});
  spec.threshold = {};
  spec.threshold.max_accuracy_drop = 0.1;
  EXPECT_STATUS(Run(spec), kInvalidArgument, kInvalidField, {"threshold.max_accuracy_drop"});
  // A text of which calibration leaves nothing.
  spec = Strict("short");
  spec.calibration.sources[0].text.path = dir_.Write("short.txt", std::string(90, 'a'));
  spec.calibration.samples = 1;
  EXPECT_STATUS(Run(spec), kInvalidArgument, kInvalidField, {"leaves nothing of its own"});
}

TEST_F(ThresholdTest, ReportsSayWhatWasMeasuredOn) {
  CompressSpec spec = Spec("recorded");
  spec.measure.texts = {{"text", {text_}, 32, 3}};
  const auto result = Run(spec);
  ASSERT_OK(result);
  const std::string digest = Sha256(*ReadFile(text_));
  const PerplexityResult& held_out = result->before.perplexities[0];
  const PerplexityResult& text = result->artifacts[0].figures.perplexities[1];
  for (const PerplexityResult* measured : {&held_out, &text}) {
    EXPECT_EQ(measured->data.uri, text_);
    EXPECT_EQ(measured->data.sha256, digest);
    EXPECT_EQ(measured->data.bytes, static_cast<int64_t>(ReadFile(text_)->size()));
    EXPECT_GT(measured->log_std_error, 0);
  }
  EXPECT_EQ(held_out.seq_len, 64);
  EXPECT_EQ(text.seq_len, 32);
  EXPECT_EQ(result->started.size(), 20u);
  const Json report = Json::parse(*ReadFile(Artifact("recorded/compression_report.json")));
  EXPECT_EQ(report["started"], result->started);
  EXPECT_EQ(report["after"]["perplexities"][1]["data"]["sha256"], digest);
  EXPECT_EQ(report["after"]["perplexities"][1]["seq_len"], 32);
  EXPECT_EQ(report["measure"]["texts"][0]["limit"], 3);
  EXPECT_EQ(report["measure"]["texts"][0]["packing"], "concatenated");
  EXPECT_EQ(report["comparisons"][1]["name"], "text");
  EXPECT_EQ(report["comparisons"][1]["std_error"], result->artifacts[0].comparisons[1].std_error);
  EXPECT_FALSE(report.contains("verdict"));
  EXPECT_THAT(*ReadFile(Artifact("recorded/report.html")), HasSubstr(digest.substr(0, 12)));
}

TEST_F(ThresholdTest, SeveralRatiosStandOnEveryPage) {
  CompressSpec spec = Spec("several");
  spec.keep_ratios = {0.8, 0.5, 0.3};
  ASSERT_OK(Run(spec));
  for (const char* name : {"keep-0.80", "keep-0.50", "keep-0.30"}) {
    const std::string page = *ReadFile(Artifact(std::string("several/") + name + "/report.html"));
    EXPECT_THAT(page, HasSubstr("All ratios of this job"));
    EXPECT_THAT(page, HasSubstr(" 0.3 "));
    EXPECT_THAT(page, HasSubstr("class=\"curve\""));
  }
}

}  // namespace
}  // namespace svdllm
