#include "report/page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "artifact/writer.h"
#include "pipeline/publish.h"
#include "report/charts.h"
#include "report/html.h"
#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Empty where text is well-formed XML of elements, attributes and the five entities, else what is
// wrong. Knows nothing else of XML, and report.html needs nothing else.
std::string XmlError(std::string_view text) {
  const auto around = [&](size_t i) { return std::string(text.substr(i, 60)); };
  std::vector<std::string> open;
  for (size_t i = text.find('>') + 1; i < text.size();) {  // behind the doctype
    if (text[i] == '&') {
      bool known = false;
      for (const std::string_view entity : {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"}) {
        known |= text.substr(i, entity.size()) == entity;
      }
      if (!known) return "entity: " + around(i);
      ++i;
    } else if (text[i] != '<') {
      if (text[i] == '>') return "stray >: " + around(i);
      ++i;
    } else {
      size_t end = i + 1;
      for (bool quoted = false; end < text.size() && (quoted || text[end] != '>'); ++end) {
        if (text[end] == '"') quoted = !quoted;
        if (text[end] == '<') return "< in a tag: " + around(i);
      }
      if (end == text.size()) return "unfinished tag: " + around(i);
      const bool closes = text[i + 1] == '/';
      const size_t begin = i + (closes ? 2 : 1);
      const std::string name(text.substr(begin, text.find_first_of(" />", begin) - begin));
      if (closes) {
        if (open.empty() || open.back() != name) return "closes what is not open: " + around(i);
        open.pop_back();
      } else if (text[end - 1] != '/') {
        open.push_back(name);
      }
      i = end + 1;
    }
  }
  return open.empty() ? "" : "never closed: " + open.back();
}

TEST(XmlError, FindsWhatIsWrong) {
  EXPECT_EQ(XmlError("<!DOCTYPE html><a b=\"x\">1 &lt; 2<c/></a>"), "");
  EXPECT_NE(XmlError("<!DOCTYPE html><a><b></a></b>"), "");
  EXPECT_NE(XmlError("<!DOCTYPE html><a>"), "");
  EXPECT_NE(XmlError("<!DOCTYPE html><a>AT&T</a>"), "");
  EXPECT_NE(XmlError("<!DOCTYPE html><a>1 > 0</a>"), "");
}

CompressSpec Spec() {
  CompressSpec spec;
  spec.job_id = "job-1";
  spec.model_uri = "file:///models/some-model/";
  spec.keep_ratios = {0.8};
  spec.calibration.sources = {{{"/data/wiki.txt"}}};
  spec.calibration.seq_len = 2048;
  return spec;
}

MatrixReport MatrixOf(int64_t layer, const std::string& kind, int64_t rank) {
  MatrixReport matrix{"model.layers." + std::to_string(layer) + "." + kind, 576, 1536, rank};
  matrix.relative_loss = rank > 0 ? 0.1 + 0.001 * static_cast<double>(layer) : 0;
  if (rank > 0) {
    for (int i = 0; i < kSpectrumPoints; ++i) {
      matrix.spectrum.push_back(1 - static_cast<float>(i) / (kSpectrumPoints - 1));
    }
  }
  return matrix;
}

ArtifactResult Artifact(int64_t layers) {
  ArtifactResult artifact;
  artifact.keep_ratio = 0.8;
  artifact.parameters = 113'000'000;
  artifact.compressed_parameters = 85'000'000;
  artifact.weight_bytes = 226'000'000;
  for (int64_t layer = 0; layer < layers; ++layer) {
    for (const char* kind : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                             "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}) {
      artifact.matrices.push_back(MatrixOf(layer, kind, layer == 1 ? 0 : 200 + layer));
    }
  }
  artifact.figures.perplexities = {{"wikitext", 14.5, 8188, 4}};
  artifact.figures.tasks = {
      {"piqa", "piqa", {{"acc", 0.61, 0.011}, {"acc_norm", 0.62, 0.011}}, 1838},
      {"truthfulqa_gen", "truthful", {{"bleu_max", 21.5, 0.7}}, 817}};
  artifact.figures.throughputs = {
      {1, 512, 32, 3, {2345.6, 2000, 2500}, {60, 59, 61}, 400'000'000},
      {8, 512, 32, 3, {2500, 2400, 2600}, {300, 290, 310}, 500'000'000}};
  return artifact;
}

CompressResult Job() {
  CompressResult job;
  job.parameters = 134'515'008;
  job.target_parameters = 106'168'320;
  job.weight_bytes = 269'030'016;
  job.before.perplexities = {{"wikitext", 12.25, 8188, 4}};
  job.before.tasks = {{"piqa", "piqa", {{"acc", 0.68, 0.011}, {"acc_norm", 0.69, 0.011}}, 1838}};
  job.before.throughputs = {{1, 512, 32, 3, {2000, 1900, 2100}, {50, 49, 51}, 800'000'000}};
  job.stages = {{"calibrate", 61}, {"factorise", 187.4}, {"write", 0.25}};
  job.peak_host_bytes = 1'400'000'000;
  job.device = "cpu, 2 threads";
  return job;
}

TEST(CompressionHtml, ShowsWhatWasMeasured) {
  const std::string html = CompressionHtml(Spec(), Job(), Artifact(30));
  EXPECT_EQ(XmlError(html), "");
  for (const char* shown : {"some-model, 80 % of its",
                            "svd_llm",
                            "134.5 M",
                            "113.0 M",
                            "-16.0 %",
                            "226.0 MB",
                            "12.25",
                            "× 1.184",
                            "piqa",
                            "0.6100 ± 0.0110",
                            "-0.0700",
                            "21.50 ± 0.70",
                            "3 min 07 s",
                            "1.40 GB",
                            "model.layers.29.mlp.down_proj: rank 229 of 576",
                            "model.layers.1.mlp.up_proj: 576 × 1536, dense",
                            "prefill, tokens/s",
                            "2346<br/><span class=\"quiet\">2000 to 2500</span>",
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

TEST(CompressionHtml, StandsAlone) {
  const std::string html = CompressionHtml(Spec(), Job(), Artifact(3));
  for (const char* reference : {"http:", "https:", "src=", "url(", "@import", "<script", "<link"}) {
    EXPECT_THAT(html, Not(HasSubstr(reference)));
  }
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
  result.verdict = {false, {"piqa: acc 0.680 → 0.610, more than 0.020 lower"}};
  html = EvaluationHtml(spec, result);
  EXPECT_EQ(XmlError(html), "");
  for (const char* shown :
       {"regression", "more than 0.020 lower", "0.6800 ± 0.0110", "file:///models/large"}) {
    EXPECT_THAT(html, HasSubstr(shown));
  }
  result.verdict = {true, {}};
  EXPECT_THAT(EvaluationHtml(spec, result), HasSubstr("accepted"));
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

TEST(Escape, KeepsTextAndNothingElse) {
  EXPECT_EQ(Escape("größer <a href=\"x\">"), "größer &lt;a href=&quot;x&quot;&gt;");
  EXPECT_EQ(Escape("日本 😀\n\t"), "日本 😀\n\t");
  const std::string replacement = "\xef\xbf\xbd";
  EXPECT_EQ(Escape(std::string("a\0b", 3)), "a" + replacement + "b");
  EXPECT_EQ(Escape("\xc0\xaf"), replacement + replacement);                    // an overlong slash
  EXPECT_EQ(Escape("\xed\xa0\x80"), replacement + replacement + replacement);  // a surrogate
  EXPECT_EQ(Escape("\xe2\x82"), replacement);                                  // cut short
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
