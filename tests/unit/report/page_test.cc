#include "report/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "artifact/writer.h"
#include "pipeline/publish.h"
#include "report/charts.h"
#include "report/damage.h"
#include "report/names.h"
#include "tests/support/job_fixture.h"
#include "tests/unit/report/report_cases.h"

namespace svdllm {
namespace {

using testing::Artifact;
using ::testing::HasSubstr;
using testing::Job;
using testing::MatrixOf;
using ::testing::Not;
using testing::Spec;
using testing::ThreeRatios;
using testing::XmlError;

TEST(XmlError, FindsWhatIsWrong) {
  EXPECT_EQ(XmlError("<!DOCTYPE html><a b=\"x\">1 &lt; 2<c/></a>"), "");
  EXPECT_NE(XmlError("<!DOCTYPE html><a><b></a></b>"), "");
  EXPECT_NE(XmlError("<!DOCTYPE html><a>"), "");
  EXPECT_NE(XmlError("<!DOCTYPE html><a>AT&T</a>"), "");
  EXPECT_NE(XmlError("<!DOCTYPE html><a>1 > 0</a>"), "");
}

TEST(CompressionHtml, ShowsWhatWasMeasured) {
  const std::string html = CompressionHtml(Spec(), Job(), Artifact(30));
  EXPECT_EQ(XmlError(html), "");
  for (const char* shown :
       {"some-model, 80 % of its",
        "svd_llm",
        "134.5 M",
        "113.0 M",
        "-16.0 %",
        "226.0 MB",
        "12.25 ± 0.18",
        "14.5 ± 0.29",
        "<p class=\"conclusion damage-2\">16.0 % smaller, acc -0.0700 ± 0.0090 (piqa): a clear "
        "loss.</p>",
        "<span class=\"damage-2\">-0.0700 ± 0.0090</span>",
        "2026-01-31 12:34 UTC",
        "wiki.test.txt (1.29 MB, SHA-256 aaaaaaaaaaaa…): 4 windows of up to 2048 "
        "tokens",
        "valid.jsonl (800.0 kB, SHA-256 bbbbbbbbbbbb…), labels.lst (3.60 kB, "
        "SHA-256 cccccccccccc…): 1838 questions, 5 examples in front",
        "piqa",
        "0.6100 ± 0.0110",
        "21.50 ± 0.70",
        "3 min 07 s",
        "1.40 GB",
        "model.layers.29.mlp.down_proj: rank 229 of 576",
        "model.layers.1.mlp.up_proj: 576 × 1536, dense",
        "prefill, tokens/s",
        "2346<br/><span class=\"quiet\">2300 to 2500</span>",
        "× 1.17",
        "× 1.2",
        "× 0.5",
        "Prompts of 512 random tokens",
        "210 matrices in 30 layers, 7 of them dense",
        "wiki.txt",
        "<h3>down_proj</h3>"}) {
    EXPECT_THAT(html, HasSubstr(shown));
  }
  EXPECT_LT(html.size(), 300'000u);
}

TEST(CompressionHtml, HasScalesThatDoNotStretch) {
  // From 52 % to 60 %: of a scale from 0 to 100 % all of one colour, or nearly.
  ArtifactResult artifact = Artifact(30);
  std::string html = CompressionHtml(Spec(), Job(), artifact);
  EXPECT_THAT(html, HasSubstr("<span>0 %<span class=\"ramp\""));
  EXPECT_THAT(html, HasSubstr("keep from 48 % to 55 %."));
  EXPECT_THAT(html, HasSubstr("From 0.1 to 0.13."));
  for (MatrixReport& m : artifact.matrices) m.rank = 300, m.relative_loss = 0.2;
  html = CompressionHtml(Spec(), Job(), artifact);
  EXPECT_THAT(html, HasSubstr("All that are compressed keep about 72 %."));
  EXPECT_THAT(html, HasSubstr("All lose about 0.2."));
  EXPECT_THAT(html, Not(HasSubstr("fill=\"" + HeatColor(0) + "\"")));
}

TEST(CompressionHtml, ShowsAllRatiosOfTheJob) {
  CompressResult job = Job();
  job.artifacts = ThreeRatios();
  const std::string html = CompressionHtml(Spec(), job, job.artifacts[1]);
  EXPECT_EQ(XmlError(html), "");
  for (const char* shown :
       {"All ratios of this job", "50 % of its", "<tr class=\"own\">", "× 2.5 ± 0.012",
        "<span class=\"damage-4\">× 4000 ± 0.012</span>", "class=\"curve\"",
        "perplexity, wikitext, logarithmic by size of the weights: 0.2 4.9e+04 at 39.4 %; 0.5 "
        "30.62 at 61.7 %; "
        "0.8 14.5 at 84.0 %; before 12.25 at 100.0 %;",
        "a heavy loss"}) {
    EXPECT_THAT(html, HasSubstr(shown));
  }
  EXPECT_THAT(CompressionHtml(Spec(), Job(), Artifact(2)), Not(HasSubstr("All ratios")));
}

TEST(CompressionHtml, CallsADestroyedModelSo) {
  const CompressResult job = Job();
  ArtifactResult artifact = ThreeRatios()[2];
  artifact.warnings = {"destroyed: wikitext: perplexity 12.25 → 4.9e+04"};
  artifact.verdict = Verdict{false, {"wikitext: too much"}, {"piqa: doubtful"}};
  artifact.comparisons[0].limit = 0.1;
  artifact.comparisons[0].accepted = false;
  const std::string html = CompressionHtml(Spec(), job, artifact);
  EXPECT_EQ(XmlError(html), "");
  for (const char* shown :
       {"<p class=\"conclusion damage-4\">", "4000 ± 0.012 (wikitext): destroyed.",
        "destroyed: wikitext:", "1 of 1 compared figures lost more", "<li>wikitext: too much</li>",
        "piqa: doubtful"}) {
    EXPECT_THAT(html, HasSubstr(shown));
  }
}

TEST(CompressionHtml, StandsAlone) {
  const std::string html = CompressionHtml(Spec(), Job(), Artifact(3));
  for (const char* reference : {"http:", "https:", "src=", "url(", "@import", "<script", "<link"}) {
    EXPECT_THAT(html, Not(HasSubstr(reference)));
  }
  const char* policy =
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'\"/>";
  EXPECT_THAT(html, HasSubstr(policy));
  EXPECT_THAT(EvaluationHtml({}, {}), HasSubstr(policy));
}

TEST(CompressionHtml, EscapesEverything) {
  const std::string evil = "<script>alert('\"&')</script>\x01\xff";
  CompressSpec spec = Spec();
  spec.job_id = spec.model_uri = evil;
  spec.calibration.sources[0].text.path = evil;
  CompressResult job = Job();
  job.device = evil;
  job.stages[0].stage = evil;
  job.before.perplexities[0].name = evil;
  job.before.tasks[0].name = evil;
  ArtifactResult artifact = Artifact(2);
  artifact.figures.perplexities[0].name = evil;
  artifact.figures.tasks[0].name = artifact.figures.tasks[0].metrics[0].name = evil;
  artifact.matrices[0].name = "model.layers.0." + evil;
  artifact.matrices[1].name = evil;
  const std::string html = CompressionHtml(spec, job, artifact);
  EXPECT_EQ(XmlError(html), "");
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("\x01")));
  EXPECT_THAT(html, Not(HasSubstr("\xff")));

  EvaluateSpec evaluation;
  evaluation.model_uri = evaluation.baseline_uri = evil;
  EvaluateResult result;
  result.device = evil;
  result.model.figures.perplexities = artifact.figures.perplexities;
  result.model.figures.tasks = artifact.figures.tasks;
  result.baseline = result.model;
  result.verdict = Verdict{false, {evil}};
  EXPECT_EQ(XmlError(EvaluationHtml(evaluation, result)), "");
  EXPECT_THAT(EvaluationHtml(evaluation, result), Not(HasSubstr("<script")));
}

TEST(CompressionHtml, IsWholeWithoutFigures) {
  EXPECT_EQ(XmlError(CompressionHtml({}, {}, {})), "");
  ArtifactResult artifact = Artifact(2);
  for (MatrixReport& m : artifact.matrices) m = {m.name, m.rows, m.cols, 0};
  artifact.figures.perplexities.clear();
  artifact.figures.tasks = {{"piqa", "piqa", {}, 0}};
  const std::string html = CompressionHtml(Spec(), Job(), artifact);  // all dense, nothing measured
  EXPECT_EQ(XmlError(html), "");
  EXPECT_THAT(html, Not(HasSubstr("Spectra")));
  EXPECT_THAT(html, HasSubstr("Rank plan"));
}

TEST(CompressionHtml, SurvivesFiguresThatAreNotFinite) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  ArtifactResult artifact = Artifact(2);
  artifact.figures.perplexities[0].perplexity = INFINITY;
  artifact.figures.tasks[0].metrics[0] = {"acc", kNan, kNan};
  artifact.matrices[0].relative_loss = kNan;
  artifact.matrices[1].spectrum.assign(kSpectrumPoints, std::numeric_limits<float>::quiet_NaN());
  artifact.matrices[2].spectrum = {1};
  const std::string html = CompressionHtml(Spec(), Job(), artifact);
  EXPECT_EQ(XmlError(html), "");
  EXPECT_THAT(html, Not(HasSubstr("nan%")));
  EXPECT_THAT(html, Not(HasSubstr("inf%")));
  EXPECT_THAT(html, Not(HasSubstr(",nan")));
}

TEST(CompressionHtml, StaysLightForManyLayers) {
  EXPECT_LT(CompressionHtml(Spec(), Job(), Artifact(80)).size(), 600'000u);
}

TEST(EvaluationHtml, ShowsModelAndVerdict) {
  EvaluateSpec spec;
  spec.model_uri = "file:///models/small";
  spec.baseline_uri = "file:///models/large";
  spec.threshold.max_accuracy_drop = 0.02;
  EvaluateResult result;
  result.device = "cpu, 2 threads";
  result.model = {"", 100, 200, Artifact(1).figures};
  std::string html = EvaluationHtml(spec, result);
  EXPECT_EQ(XmlError(html), "");
  EXPECT_THAT(html, HasSubstr("Evaluation of small"));
  EXPECT_THAT(html, HasSubstr("0.6100 ± 0.0110"));
  EXPECT_THAT(html, Not(HasSubstr(">baseline<")));

  result.baseline = {"", 120, 240, Job().before};
  result.comparisons = Artifact(1).comparisons;
  for (Comparison& c : result.comparisons) c.limit = 0.02;
  result.verdict = {false, {"piqa: acc 0.680 → 0.610, more than 0.020 lower"}};
  html = EvaluationHtml(spec, result);
  EXPECT_EQ(XmlError(html), "");
  for (const char* shown :
       {"Evaluation of small against large", "✗ Rejected", "1 of 3 compared figures lost more",
        "more than 0.020 lower", "0.6800 ± 0.0110", "file:///models/large"}) {
    EXPECT_THAT(html, HasSubstr(shown));
  }
  result.verdict = {true, {}};
  EXPECT_THAT(EvaluationHtml(spec, result),
              HasSubstr("✓ Accepted</strong>: 3 of 3 compared figures"));
}

class PublishedReport : public JobFixture {};

TEST_F(PublishedReport, LiesInTheArtifactWithItsSpectra) {
  CompressSpec spec = Spec("reported");
  spec.keep_ratios = {0.6};
  const auto result = Run(spec);
  ASSERT_OK(result);
  const auto html = ReadFile(Artifact("reported/report.html"));
  ASSERT_OK(html);
  EXPECT_EQ(XmlError(*html), "");
  EXPECT_THAT(*html, HasSubstr("60 % of its linear layers"));
  const auto manifest = ReadFile(Artifact("reported/compression_manifest.json"));
  ASSERT_OK(manifest);
  EXPECT_THAT(*manifest, HasSubstr("\"report.html\""));
  const auto card = ReadFile(Artifact("reported/README.md"));
  ASSERT_OK(card);
  EXPECT_THAT(*card, HasSubstr("(report.html)"));
  for (const MatrixReport& m : result->artifacts[0].matrices) {
    ASSERT_EQ(m.spectrum.size(), static_cast<size_t>(kSpectrumPoints)) << m.name;
    EXPECT_EQ(m.spectrum.front(), 1) << m.name;
    EXPECT_EQ(m.spectrum.back(), 0) << m.name;
    EXPECT_TRUE(std::is_sorted(m.spectrum.rbegin(), m.spectrum.rend())) << m.name;
    // What was lost lies between the points around the rank.
    const double order = static_cast<double>(std::min(m.rows, m.cols));
    const double place = static_cast<double>(m.rank) / order * (kSpectrumPoints - 1);
    const auto below = static_cast<size_t>(std::max(0.0, std::floor(place) - 1));
    const auto above = std::min<size_t>(kSpectrumPoints - 1, below + 3);
    EXPECT_LE(m.relative_loss, m.spectrum[below] + 1e-6) << m.name;
    EXPECT_GE(m.relative_loss, m.spectrum[above] - 1e-6) << m.name;
  }
  const auto own = ReadOwnArtifact(Artifact("reported"), spec.job_id);
  ASSERT_OK(own);
  EXPECT_NEAR(own->artifact.matrices[0].spectrum[9], result->artifacts[0].matrices[0].spectrum[9],
              1e-4);
}

TEST(HubId, IsOnlyWhatAHubWouldKnow) {
  EXPECT_EQ(HubId("/root/.cache/models--karpathy--tiny-llamas/snapshots/abc123"),
            "karpathy/tiny-llamas");
  EXPECT_EQ(HubId("file:///c/models--org--a--b/snapshots/abc123/"), "org/a--b");
  EXPECT_EQ(HubId("models--gpt2/snapshots/abc123"), "gpt2");
  for (const char* none : {"", "/models/SmolLM2-135M", "/models--a--b/snapshots/", "/snapshots/x",
                           "/models/snapshots/x", "/models--a--b/blobs/x"}) {
    EXPECT_EQ(HubId(none), "") << none;
  }
  EXPECT_EQ(ModelName("file:///c/models--org--name/snapshots/abc123"), "org/name");
  EXPECT_EQ(ModelName("file:///models/small/"), "small");
  EXPECT_EQ(ModelName("file:///a/small-svdllm/keep-0.80"), "small-svdllm/keep-0.80");
  EXPECT_EQ(ModelName("keep-0.80"), "keep-0.80");
}

TEST(DamageOf, GoesByTheLossAndItsError) {
  const auto text = [](double change) {
    return DamageOf({"t", Comparison::kPerplexityMetric, 10, 10 * (1 + change), change});
  };
  EXPECT_EQ(text(-0.5), Damage::kNone);
  EXPECT_EQ(text(0.05), Damage::kNone);
  EXPECT_EQ(text(0.06), Damage::kSmall);
  EXPECT_EQ(text(0.9), Damage::kClear);
  EXPECT_EQ(text(8), Damage::kHeavy);
  EXPECT_EQ(text(9.1), Damage::kDestroyed);
  EXPECT_EQ(text(std::numeric_limits<double>::quiet_NaN()), Damage::kDestroyed);
  const auto task = [](double change, double error) {
    return DamageOf({"t", "acc", 0.5, 0.5 + change, change, error});
  };
  EXPECT_EQ(task(-0.05, 0.01), Damage::kClear);
  EXPECT_EQ(task(-0.05, 0.03), Damage::kNone);  // chance does as much
  EXPECT_EQ(task(-0.05, -1), Damage::kClear);
  EXPECT_EQ(task(0.3, 0.01), Damage::kNone);
}

TEST(Conclusion, IsOneSentence) {
  std::vector<Comparison> comparisons = Artifact(1).comparisons;
  EXPECT_EQ(Conclusion(200, 200, comparisons),
            "as large as before, acc -0.0700 ± 0.0090 (piqa): a clear loss");
  comparisons[1].change = 0.01;
  EXPECT_EQ(Conclusion(200, 100, comparisons),
            "50.0 % smaller, perplexity × 1.184 ± 0.012 (wikitext): a small loss");
  EXPECT_EQ(Conclusion(200, 220, {}),
            "10.0 % larger; nothing was measured that tells what it costs");
}

TEST(GridOf, ReadsLayersAndKinds) {
  const std::vector<MatrixReport> matrices = {MatrixOf(0, "self_attn.qkv_proj.q_proj", 3),
                                              MatrixOf(2, "fc1", 3),
                                              {"model.decoder.layers.1.fc1", 4, 4, 1},
                                              {"lm_head", 4, 4, 1},
                                              {"model.layers.x.fc1", 4, 4, 1}};
  const MatrixGrid grid = GridOf(matrices);
  EXPECT_EQ(grid.layers, 3);
  EXPECT_THAT(grid.kinds, ::testing::ElementsAre("q_proj", "fc1"));
  ASSERT_EQ(grid.cells.size(), 3u);
  EXPECT_EQ(grid.cells[2].layer, 1);
}

TEST(Colors, RunFromEndToEnd) {
  EXPECT_EQ(HeatColor(-1), HeatColor(0));
  EXPECT_EQ(HeatColor(7), HeatColor(1));
  EXPECT_EQ(HeatColor(std::numeric_limits<double>::quiet_NaN()), HeatColor(0));
  EXPECT_NE(LineColor(0), LineColor(1));
}

}  // namespace
}  // namespace svdllm
