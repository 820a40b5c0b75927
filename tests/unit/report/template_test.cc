// The templates of src/report/assets: whoever changes one runs this.
#include "report/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>

#include "base/utf8.h"
#include "report/assets.h"
#include "report/page_data.h"
#include "tests/unit/report/report_cases.h"

namespace svdllm {
namespace {

using testing::Artifact;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::Job;
using ::testing::Not;
using testing::Spec;
using testing::XmlError;

TEST(Render, FillsInAndEscapes) {
  const Data data = DataObject{{"name", "<a|b>"}, {"nothing", Nothing()}};
  std::vector<std::string> problems;
  EXPECT_EQ(RenderHtml("{{name}} {{{name}}}{{#nothing}} more{{/nothing}}", data, &problems),
            "&lt;a|b&gt; <a|b>");
  EXPECT_THAT(problems, IsEmpty());
}

TEST(Render, SaysWhatIsWrongAndGoesOn) {
  std::vector<std::string> problems;
  EXPECT_EQ(RenderHtml("a{{nobody}}b{{> none}}c{{#other}}d{{/other}}", Data(), &problems), "abc");
  EXPECT_THAT(problems, ElementsAre("nothing is called nobody", "no partial is called none",
                                    "nothing is called other"));
  for (const char* broken : {"{{a", "{{#a}}", "{{/a}}", "{{#a}}{{/b}}", "{{=x=}}"}) {
    problems.clear();
    RenderHtml(broken, DataObject{{"a", "b"}}, &problems);
    EXPECT_THAT(problems, Not(IsEmpty())) << broken;
    RenderHtml(broken, Data());  // nobody wants to know
  }
}

using Renderer = std::string (*)(const char*, const Data&, std::vector<std::string>*);

// Renders a template with each of the data. Every section, those that stand for the lack of
// something too, is shown by one at least; no name is unknown. Returns what came out.
std::vector<std::string> RenderAll(std::string text, Renderer render,
                                   const std::vector<Data>& cases) {
  // A partial by its text, so that its sections are marked too.
  text = ReplaceAll(text, "{{> measured}}", kMeasuredPartial);
  std::vector<std::string> marks;
  std::string marked;
  const std::regex section(R"(\{\{[#^][a-z_]+\}\})");
  std::sregex_iterator found(text.begin(), text.end(), section);
  for (; found != std::sregex_iterator(); ++found) {
    marks.push_back("(" + std::to_string(marks.size()) + " " + found->str().substr(2));
    marks.back().resize(marks.back().size() - 2);
    marked += found->prefix().str() + found->str() + marks.back() + ")";
    if (std::next(found) == std::sregex_iterator()) marked += found->suffix().str();
  }
  std::vector<std::string> outputs;
  for (const Data& data : cases) {
    std::vector<std::string> problems;
    outputs.push_back(render(text.c_str(), data, &problems));
    EXPECT_THAT(problems, IsEmpty());
    const std::string shown = render(marked.c_str(), data, nullptr);
    const auto is_shown = [&](const std::string& mark) {
      return shown.find(mark + ")") != std::string::npos;
    };
    marks.erase(std::remove_if(marks.begin(), marks.end(), is_shown), marks.end());
  }
  EXPECT_THAT(marks, IsEmpty()) << "no case shows these sections";
  return outputs;
}

// Jobs that measured everything, nothing, and what else sections ask for.
struct Compression {
  CompressSpec spec = Spec();
  CompressResult job = Job();
  ArtifactResult artifact = Artifact(2);
};
std::vector<Compression> Compressions() {
  Compression nothing{{}, {}, {}}, dense, anchored, in_domain;
  dense.spec.output_format = OutputFormat::kDense;
  dense.job.before.perplexities.clear();
  dense.artifact.figures.throughputs.clear();
  for (MatrixReport& m : dense.artifact.matrices) m = {m.name, m.rows, m.cols, 0};
  anchored.spec.method = Method::kAnchored;
  anchored.spec.calibration.sources.push_back({});
  anchored.spec.calibration.sources.back().model_samples = true;
  anchored.job.peak_device_bytes = 1'000'000'000;
  in_domain.spec.method = Method::kSvd;
  in_domain.job.before.perplexities[0].held_out = true;
  in_domain.artifact.figures.perplexities[0].held_out = true;
  return {{}, nothing, dense, anchored, in_domain};
}

TEST(ReportTemplate, HasASectionForEverythingAndNoNameTooMany) {
  std::vector<Data> cases;
  for (const Compression& m : Compressions()) {
    cases.push_back(CompressionData(m.spec, m.job, m.artifact));
  }
  for (const std::string& html : RenderAll(kReportTemplate, RenderHtml, cases)) {
    EXPECT_EQ(XmlError(html), "");
  }
}

TEST(EvaluationTemplate, HasASectionForEverythingAndNoNameTooMany) {
  EvaluateSpec spec;
  EvaluateResult result;
  std::vector<Data> cases = {EvaluationData(spec, result)};
  result.model.figures = Artifact(1).figures;
  cases.push_back(EvaluationData(spec, result));
  result.baseline = ModelResult{"", 120, 240, Job().before};
  result.verdict = Verdict{false, {"acc lower"}};
  result.peak_device_bytes = 1'000'000'000;
  result.model.figures.perplexities[0].held_out = true;
  spec.threshold = {0.02, 0.1};
  spec.measure.tasks.push_back({});
  cases.push_back(EvaluationData(spec, result));
  result.verdict = Verdict{true, {}};
  cases.push_back(EvaluationData(spec, result));
  for (const std::string& html : RenderAll(kEvaluationTemplate, RenderHtml, cases)) {
    EXPECT_EQ(XmlError(html), "");
  }
}

}  // namespace
}  // namespace svdllm
