// The templates of src/report/assets: whoever changes one runs this.
#include "report/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <sstream>

#include "base/utf8.h"
#include "report/assets.h"
#include "report/card_data.h"
#include "report/page_data.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"
#include "tests/unit/report/report_cases.h"

namespace svdllm {
namespace {

using testing::Artifact;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::Job;
using ::testing::Not;
using testing::Spec;
using testing::ThreeRatios;
using testing::XmlError;

TEST(Render, FillsInAndEscapes) {
  const Data data = DataObject{{"name", "<a|b>"}, {"nothing", Nothing()}};
  std::vector<std::string> problems;
  EXPECT_EQ(RenderHtml("{{name}} {{{name}}}{{#nothing}} more{{/nothing}}", data, &problems),
            "&lt;a|b&gt; <a|b>");
  EXPECT_EQ(RenderMarkdown("{{name}} {{{name}}}", data, &problems), "&lt;a\\|b> <a|b>");
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
  text = ReplaceAll(text, "{{> conclusion}}", kConclusionPartial);
  text = ReplaceAll(text, "{{> sources}}", kSourcesPartial);
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
  Compression nothing{{}, {}, {}}, dense, anchored, in_domain, several, accepted;
  dense.spec.output_format = OutputFormat::kDense;
  dense.job.before.perplexities.clear();
  dense.artifact.figures.throughputs.clear();
  for (MatrixReport& m : dense.artifact.matrices) m = {m.name, m.rows, m.cols, 0};
  anchored.spec.method = Method::kAnchored;
  anchored.spec.calibration.sources.push_back({});
  anchored.spec.calibration.sources.back().model_samples = true;
  anchored.artifact = Artifact(30);
  anchored.job.peak_device_bytes = 1'000'000'000;
  anchored.job.calibration.window_start = WindowStart::kWindow;
  anchored.job.calibration.warnings = {"wiki.txt: too <few> tokens", "and another"};
  in_domain.spec.method = Method::kSvd;
  in_domain.job.before.perplexities[0].held_out = true;
  in_domain.artifact.figures.perplexities[0].held_out = true;
  for (MatrixReport& m : in_domain.artifact.matrices) m.rank = 300, m.relative_loss = 0.2;
  in_domain.spec.encoding = Encoding::kPivoted;
  several.spec.model_uri = "file:///c/models--org--name/snapshots/abc";
  several.job.artifacts = ThreeRatios();
  several.job.artifacts[2].verdict = Verdict{false, {"wikitext: much more"}, {"piqa: doubtful"}};
  several.job.artifacts[2].warnings = {"destroyed: wikitext"};
  several.job.artifacts[2].comparisons[0].accepted = false;
  several.job.artifacts[2].comparisons[1].accepted = false;
  several.artifact = several.job.artifacts[2];
  accepted.artifact.verdict = Verdict{};
  return {{}, nothing, dense, anchored, in_domain, several, accepted};
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
  result.comparisons = Artifact(1).comparisons;
  result.comparisons[0].accepted = result.comparisons[1].accepted = false;
  result.started = "2026-01-31T12:34:56Z";
  result.warnings = {"destroyed"};
  result.verdict->warnings = {"piqa: doubtful"};
  spec.threshold = {0.02, 0.1};
  spec.measure.tasks.push_back({});
  cases.push_back(EvaluationData(spec, result));
  result.verdict = Verdict{true, {}};
  cases.push_back(EvaluationData(spec, result));
  for (const std::string& html : RenderAll(kEvaluationTemplate, RenderHtml, cases)) {
    EXPECT_EQ(XmlError(html), "");
  }
}

class CardTemplate : public ::testing::Test {
 protected:
  void SetUp() override { testing::WriteTinyCheckpoint(dir_.path()); }
  Data DataOf(const Compression& m) {
    absl::StatusOr<Checkpoint> source = Checkpoint::Open(dir_.path());
    EXPECT_OK(source);
    return CardData(*source, m.spec, m.job, m.artifact);
  }
  testing::TempDir dir_;
};

// Every row of a table has as many cells as its head, and none stands outside of a table.
void ExpectWholeTables(const std::string& card) {
  size_t columns = 0;
  std::istringstream lines(card);
  for (std::string line; std::getline(lines, line);) {
    const std::string cells = std::regex_replace(line, std::regex(R"(\\\|)"), "");
    const auto bars = static_cast<size_t>(std::count(cells.begin(), cells.end(), '|'));
    if (line.rfind("| |", 0) == 0 || line.rfind("| batch size", 0) == 0) {
      columns = bars;
    } else if (line.rfind('|', 0) == 0) {
      EXPECT_EQ(bars, columns) << line;
    } else {
      EXPECT_EQ(bars, 0u) << line;
      columns = 0;
    }
  }
}

TEST_F(CardTemplate, HasASectionForEverythingAndNoNameTooMany) {
  std::vector<Data> cases;
  for (const Compression& m : Compressions()) cases.push_back(DataOf(m));
  dir_.Write("README.md", "---\nlicense: apache-2.0\n---\n");
  std::filesystem::remove(dir_.File("tokenizer.json"));
  dir_.Write("tokenizer.model", "pieces");
  cases.push_back(DataOf({}));
  const std::vector<std::string> cards = RenderAll(kCardTemplate, RenderMarkdown, cases);
  for (const std::string& card : cards) ExpectWholeTables(card);
  EXPECT_THAT(cards.front(), HasSubstr("\nlicense: other\n"));
  EXPECT_THAT(cards.front(), HasSubstr("declares no licence"));
  EXPECT_THAT(cards.back(), HasSubstr("\nlicense: apache-2.0\n"));
  EXPECT_THAT(cards.back(), Not(HasSubstr("declares no licence")));
}

// Whatever a card, a model and a text are called: text stays text.
TEST_F(CardTemplate, TakesNoMarkupFromOthers) {
  const std::pair<std::string, std::string> kLicences[] = {
      {" mit", "mit"},
      {" \"apache-2.0\"  # since 2023\r", "apache-2.0"},
      {" <img src=x onerror=alert(1)>", "\"<img src=x onerror=alert(1)>\""},
      {" \"open\\", "\"open\\\\\""},
      {" !!python/object/apply:os.system [id]", "\"!!python/object/apply:os.system [id]\""},
      {" {a: &b [*b]}", "\"{a: &b [*b]}\""},
      {"", "other"}};
  for (const auto& [declared, shown] : kLicences) {
    dir_.Write("README.md", "---\nlicense:" + declared + "\ntags: x\n---\n");
    Compression m;
    m.spec.model_uri = "/models/a<img src=x onerror=alert(1)>`b";
    m.spec.calibration.sources = {{{"/data/<script>x<!--.txt"}, false, 1}};
    const std::string card = RenderMarkdown(kCardTemplate, DataOf(m));
    EXPECT_THAT(card, HasSubstr("\nlicense: " + shown + "\nlibrary_name:")) << declared;
    const std::string body = card.substr(card.find("\n---", 3));
    EXPECT_THAT(body, HasSubstr("a&lt;img src=x"));
    for (const char* tag : {"<img", "<script", "<!--"}) EXPECT_THAT(body, Not(HasSubstr(tag)));
  }
}

TEST_F(CardTemplate, ShowsWhatWasMeasured) {
  Compression m;
  m.spec.calibration.sources = {{{"/data/wiki.txt"}, false, 3}, {{}, true, 1}};
  const std::string card = RenderMarkdown(kCardTemplate, DataOf(m));
  for (const char* shown :
       {"---\nlicense: other\n", "# some-model, 80 % of its linear layers' parameters kept",
        "| parameters | 134.52 M | 113.00 M | -16.0 % |\n| of the compressed linears | ",
        "| -16.0 % |\n| wikitext (4 windows, 8188 tokens predicted) | 12.25 ± 0.18 | 14.5 ± 0.29 | "
        "× 1.184 ± 0.012 |\n| piqa, acc (1838 questions) | 0.680 ± 0.011 | 0.610 ± 0.011 | -0.0700 "
        "± 0.0090 |\n",
        "\n\n## Speed\n\n| batch size | | before | after | change "
        "|\n|---|---|---|---|---|\n"
        "| 1 | prefill, tokens per second | 2000 (1900 to 2100) | 2346 (2300 to 2500) | × 1.17 |\n",
        "| 1 | peak memory | 800.0 MB | 400.0 MB | -50.0 % |\n\nOn cpu, 2 threads, by svdllm's",
        "- ranks `uniform`: the same keep ratio for every matrix\n- factors plain: two factors per "
        "matrix\n- calibrated on 256 sequences of up to 2048 tokens, seed 3: 75 % `wiki.txt` and "
        "25 % the model's own samples\n- largest relative loss of a matrix: 0.1, "
        "`model.layers.0.self_attn.q_proj`\n- computed on cpu, 2 threads\n\n[report.html]"}) {
    EXPECT_THAT(card, HasSubstr(shown));
  }
}

TEST_F(CardTemplate, SaysHowItIsLoaded) {
  Compression m;
  m.spec.model_uri = "file:///c/models--org--a: b/snapshots/abc";
  std::string card = RenderMarkdown(kCardTemplate, DataOf(m));
  EXPECT_EQ(card.rfind("---\nbase_model: \"org/a: b\"\n", 0), 0u) << card;
  for (const char* shown :
       {"# org/a: b, 80 %", "AutoTokenizer.from_pretrained(path, trust_remote_code=True)\n",
        "AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)\n```\n",
        "`vllm serve path/to/this/directory --trust-remote-code`. For",
        "`target_modules=\"all-linear\"`"}) {
    EXPECT_THAT(card, HasSubstr(shown));
  }
  EXPECT_THAT(card, Not(HasSubstr("SentencePiece")));
  m.spec.encoding = Encoding::kPivoted;
  card = RenderMarkdown(kCardTemplate, DataOf(m));
  EXPECT_THAT(card, HasSubstr("--trust-remote-code`, in one process"));
  m.spec.output_format = OutputFormat::kDense;
  m.spec.model_uri = "/models/plain-directory";
  card = RenderMarkdown(kCardTemplate, DataOf(m));
  EXPECT_THAT(card, HasSubstr("AutoTokenizer.from_pretrained(path)\n"));
  for (const char* left_out : {"trust_remote_code", "vllm", "PEFT", "base_model"}) {
    EXPECT_THAT(card, Not(HasSubstr(left_out)));
  }
}

// The time that reading the texts took was once published as a speed.
TEST_F(CardTemplate, HasNoSpeedThatWasNotAskedFor) {
  Compression m;
  m.artifact.figures.throughputs.clear();
  m.artifact.figures.perplexities[0].seconds = m.job.before.perplexities[0].seconds = 3;
  EXPECT_THAT(RenderMarkdown(kCardTemplate, DataOf(m)), Not(HasSubstr("prefill")));
}

TEST_F(CardTemplate, CallsADestroyedModelSo) {
  Compression m;
  m.artifact.warnings = {"destroyed: wikitext: perplexity 12.25 → 4.9e+04"};
  m.artifact.verdict =
      Verdict{false, {"wikitext: perplexity 12.25 → 4.9e+04, more than 10 % higher"}};
  const std::string card = RenderMarkdown(kCardTemplate, DataOf(m));
  EXPECT_THAT(card, HasSubstr("\n\n> ✗ destroyed: wikitext: perplexity 12.25 → 4.9e+04\n"));
  EXPECT_THAT(card, HasSubstr("\n\n> ✗ Rejected by its own job's threshold: wikitext: perplexity"));
}

TEST_F(CardTemplate, EscapesNames) {
  const std::string evil = "a`b|c\n# <script>[x](y)\xff";
  Compression m;
  m.spec.model_uri = m.spec.calibration.sources[0].text.path = m.job.device = evil;
  m.job.before.perplexities[0].name = m.job.before.tasks[0].name = evil;
  m.artifact.matrices[0].name = evil;
  m.artifact.matrices[0].relative_loss = 1;
  const std::string card = RenderMarkdown(kCardTemplate, DataOf(m));
  EXPECT_THAT(card, HasSubstr("\n# a\\`b\\|c # &lt;script>\\[x\\](y)\xef\xbf\xbd, 80 %"));
  EXPECT_THAT(card, HasSubstr("Made from a\\`b\\|c # &lt;script>\\[x\\](y)\xef\xbf\xbd by"));
  EXPECT_THAT(card, HasSubstr("| a\\`b\\|c # &lt;script>\\[x\\](y)\xef\xbf\xbd (4 windows"));
  EXPECT_THAT(card, Not(HasSubstr("\n# <script>")));
  EXPECT_THAT(card, Not(HasSubstr("\xff")));
}

}  // namespace
}  // namespace svdllm
