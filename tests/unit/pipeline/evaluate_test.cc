#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "report/evaluation_json.h"
#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Json = nlohmann::json;

class EvaluateTest : public JobFixture {
 protected:
  void SetUp() override {
    JobFixture::SetUp();
    baseline_ = dir_.File("baseline");
    testing::TinyCheckpointOptions options;
    options.seed = 5;
    testing::WriteTinyCheckpoint(baseline_, options);
    std::string lines, sums;
    for (int i = 0; i < 12; ++i) {
      const std::string n = std::to_string(i * i);
      lines += R"({"query": "Line )" + n +
               R"( of", "choices": ["a text", "that", "no"], "gold": )" + std::to_string(i % 3) +
               "}\n";
      sums += R"({"question": ")" + n + R"( and 1?", "answer": "It is #### )" + n + "\"}\n";
    }
    spec_.job_id = "job";
    spec_.model_dir = spec_.model_uri = model_;
    spec_.baseline_dir = spec_.baseline_uri = baseline_;
    spec_.measure.texts = {{"text", {text_}, 32, 3}};
    spec_.measure.tasks.resize(2);
    spec_.measure.tasks[0].task = "multiple_choice";
    spec_.measure.tasks[0].name = "mine";
    spec_.measure.tasks[0].path = dir_.Write("q.jsonl", lines);
    spec_.measure.tasks[1].task = "gsm8k";
    spec_.measure.tasks[1].name = "sums";
    spec_.measure.tasks[1].path = dir_.Write("g.jsonl", sums);
    spec_.measure.tasks[1].limit = 3;
    spec_.output_uri = *store_->ResolveOutput(dir_.File("artifacts/report"));
    spec_.work_dir = dir_.File("work");
  }
  absl::StatusOr<EvaluateResult> Run(const RunHooks& hooks = {}) {
    return testing::RunEvaluate(spec_, *backend_, *store_, hooks);
  }
  std::string Published(const std::string& name) { return dir_.File("artifacts/report/" + name); }
  std::string baseline_;
  EvaluateSpec spec_;
};

TEST_F(EvaluateTest, AHubCachesDirectoryIsNamedByItsSnapshot) {
  const std::string hub = dir_.File("models--org--name"), snapshot = hub + "/snapshots/abc";
  std::filesystem::create_directories(hub + "/snapshots");
  std::filesystem::copy(model_, snapshot);
  for (const std::string& given : {hub, hub + "/"}) {
    spec_.model_dir = given;
    spec_.model_uri = "file://" + given;
    const auto job = Resolve(spec_);
    ASSERT_OK(job);
    EXPECT_EQ(job->models[0].uri, "file://" + snapshot);
    EXPECT_EQ(job->models[1].uri, baseline_) << "no hub cache";
    CompressSpec compression = Spec("small");
    compression.model_dir = given;
    compression.model_uri = "file://" + given;
    const auto compress = Resolve(compression);
    ASSERT_OK(compress);
    EXPECT_EQ(compress->spec.model_uri, "file://" + snapshot);
    EXPECT_EQ(Checkpoint::Open(compress->spec.model_dir)->dir(), compress->spec.model_dir);
  }
  ASSERT_OK(Run());
  const Json report = Json::parse(*ReadFile(Published("evaluation_report.json")));
  EXPECT_EQ(report["model"]["uri"], "file://" + snapshot);
}

TEST_F(EvaluateTest, MeasuresBothAndPublishes) {
  spec_.threshold.max_accuracy_drop = 1;
  double percent = 0;
  RunHooks hooks;
  hooks.on_progress = [&](const ProgressEvent& progress) {
    EXPECT_GE(progress.percent, percent);
    percent = progress.percent;
  };
  const auto result = Run(hooks);
  ASSERT_OK(result);
  EXPECT_NEAR(percent, 100, 1e-6);
  ASSERT_TRUE(result->baseline.has_value());
  ASSERT_EQ(result->model.figures.tasks.size(), 2u);
  const TaskResult& task = result->model.figures.tasks[0];
  EXPECT_EQ(task.name, "mine");
  EXPECT_EQ(task.items, 12);
  ASSERT_EQ(task.metrics.size(), 2u);
  EXPECT_EQ(task.metrics[1].name, "acc_norm");
  EXPECT_GE(task.metrics[0].std_error, 0);
  EXPECT_GT(task.tokens, 0);
  EXPECT_EQ(result->model.figures.tasks[1].items, 3);
  EXPECT_NE(result->model.figures.perplexities[0].perplexity,
            result->baseline->figures.perplexities[0].perplexity);
  EXPECT_TRUE(result->verdict->accepted);
  EXPECT_EQ(result->report_uri, spec_.output_uri);
  EXPECT_EQ(result->manifest_sha256, Sha256(*ReadFile(Published("compression_manifest.json"))));

  const Json report = Json::parse(*ReadFile(Published("evaluation_report.json")));
  EXPECT_EQ(report["model"]["tasks"][0]["metrics"][0]["value"], task.metrics[0].value);
  EXPECT_EQ(report["baseline"]["uri"], baseline_);
  EXPECT_EQ(report["verdict"]["accepted"], true);
  ASSERT_EQ(result->comparisons.size(), 5u);  // a perplexity, two metrics of either task
  EXPECT_EQ(report["comparisons"].size(), 5u);
  EXPECT_EQ(report["comparisons"][1]["limit"], 1);
  EXPECT_GE(report["comparisons"][0]["std_error"], 0);
  EXPECT_EQ(report["model"]["tasks"][0]["data"][0]["sha256"],
            Sha256(*ReadFile(spec_.measure.tasks[0].path)));
  EXPECT_EQ(report["measure"]["tasks"][1]["limit"], 3);
  EXPECT_EQ(report["started"], result->started);
  EXPECT_TRUE(testing::FileExists(Published("report.html")));
  const std::string predictions = *ReadFile(Published("predictions.jsonl"));
  EXPECT_EQ(std::count(predictions.begin(), predictions.end(), '\n'), 2 * (12 + 3));
  std::map<std::string, double> right;
  std::istringstream lines(predictions);
  for (std::string line; std::getline(lines, line);) {
    const Json answer = Json::parse(line);
    if (answer["task"] != "mine") continue;
    right[answer["model"]] += answer["scores"]["acc"].get<double>();
    const auto values = answer["log_likelihoods"].get<std::vector<double>>();
    EXPECT_EQ(answer["prediction"],
              std::max_element(values.begin(), values.end()) - values.begin());
  }
  EXPECT_NEAR(right["model"] / 12, task.metrics[0].value, 1e-12);
  EXPECT_NEAR(right["baseline"] / 12, result->baseline->figures.tasks[0].metrics[0].value, 1e-12);
}

TEST_F(EvaluateTest, ChangesHaveTheErrorOfPairedQuestions) {
  const auto result = Run();
  ASSERT_OK(result);
  std::map<std::string, std::map<int, double>> scores;
  std::istringstream lines(*ReadFile(Published("predictions.jsonl")));
  for (std::string line; std::getline(lines, line);) {
    const Json answer = Json::parse(line);
    if (answer["task"] != "mine") continue;
    auto& of_model = scores[answer["model"]];
    of_model[static_cast<int>(of_model.size())] = answer["scores"]["acc"].get<double>();
  }
  double mean = 0, squares = 0;
  for (int i = 0; i < 12; ++i) mean += (scores["model"][i] - scores["baseline"][i]) / 12;
  for (int i = 0; i < 12; ++i) {
    const double rest = scores["model"][i] - scores["baseline"][i] - mean;
    squares += rest * rest;
  }
  const Comparison& acc = result->comparisons[1];
  EXPECT_EQ(acc.name, "mine");
  EXPECT_EQ(acc.metric, "acc");
  EXPECT_NEAR(acc.change, mean, 1e-12);
  EXPECT_NEAR(acc.std_error, std::sqrt(squares / 11 / 12), 1e-12);
  // The same model twice: no change, and none to be expected.
  spec_.baseline_dir = spec_.model_dir;
  spec_.output_uri.clear();
  const auto same = Run();
  ASSERT_OK(same);
  for (const Comparison& c : same->comparisons) {
    EXPECT_EQ(c.change, 0) << c.name;
    EXPECT_EQ(c.std_error, 0) << c.name;
  }
  EXPECT_THAT(same->warnings, IsEmpty());
}

TEST_F(EvaluateTest, AnAttemptThatDiedAfterPublishingStands) {
  const auto first = Run();
  ASSERT_OK(first);
  RunHooks never;
  never.check = [] { return absl::CancelledError("not to be run again"); };
  spec_.attempt = 2;
  const auto second = Run(never);
  ASSERT_OK(second);
  EXPECT_EQ(second->manifest_sha256, first->manifest_sha256);
  EXPECT_EQ(second->model.figures.tasks[1].metrics[0].name, "exact_match");
  EXPECT_EQ(second->baseline->figures.perplexities[0].perplexity,
            first->baseline->figures.perplexities[0].perplexity);
  EXPECT_EQ(second->comparisons[3].std_error, first->comparisons[3].std_error);
  EXPECT_EQ(second->started, first->started);
  EXPECT_EQ(second->model.figures.perplexities[0].data.sha256, Sha256(*ReadFile(text_)));
  spec_.job_id = "another";
  EXPECT_STATUS(Run(), kAlreadyExists, kOutputExists, {"report"});
}

TEST_F(EvaluateTest, OnAnErrorNothingIsPublished) {
  RunHooks hooks;
  hooks.begin_publish = [] { return absl::CancelledError("too late"); };
  EXPECT_STATUS(Run(hooks), kCancelled, "", {"too late"});
  EXPECT_FALSE(testing::FileExists(dir_.File("artifacts/report")));
  EXPECT_EQ(testing::ListDir(dir_.File("artifacts")), "");
}

TEST_F(EvaluateTest, PublishesNothingWhereNoOutputIsNamed) {
  spec_.output_uri.clear();
  spec_.baseline_dir.clear();
  const auto result = Run();
  ASSERT_OK(result);
  EXPECT_FALSE(result->baseline.has_value());
  EXPECT_FALSE(result->verdict.has_value());
  EXPECT_EQ(result->report_uri, "");
  EXPECT_EQ(testing::ListDir(dir_.File("artifacts")), "");
}

TEST_F(EvaluateTest, RefusesAtOnce) {
  EXPECT_OK(testing::PlanEvaluate(spec_));
  EvaluateSpec bad = spec_;
  bad.baseline_dir.clear();
  bad.threshold.max_accuracy_drop = 0.1;
  EXPECT_STATUS(testing::PlanEvaluate(bad), kInvalidArgument, kInvalidField,
                {"threshold", "baseline"});
  bad = spec_;
  bad.measure.tasks[1].name = "text";
  EXPECT_STATUS(testing::PlanEvaluate(bad), kInvalidArgument, kInvalidField,
                {"text", "another figure's"});
  bad = spec_;
  bad.measure.tasks[0].path = dir_.File("absent.jsonl");
  EXPECT_STATUS(testing::PlanEvaluate(bad), kNotFound, kDatasetInvalid, {"mine", "absent.jsonl"});
  bad = spec_;
  bad.baseline_dir = dir_.File("nowhere");
  EXPECT_STATUS(testing::PlanEvaluate(bad), kNotFound, kModelNotFound, {"baseline", "nowhere"});
}

TEST_F(EvaluateTest, CompressionsMeasureTasksBeforeAndAfter) {
  CompressSpec compress = Spec("small");
  compress.measure.tasks = {spec_.measure.tasks[0]};
  const auto result = JobFixture::Run(compress);
  ASSERT_OK(result);
  ASSERT_EQ(result->before.tasks.size(), 1u);
  ASSERT_EQ(result->artifacts[0].figures.tasks.size(), 1u);
  const Json report = Json::parse(*ReadFile(Artifact("small/compression_report.json")));
  EXPECT_EQ(report["before"]["tasks"][0]["name"], "mine");
  EXPECT_EQ(report["after"]["tasks"][0]["metrics"][0]["value"],
            result->artifacts[0].figures.tasks[0].metrics[0].value);
  EXPECT_THAT(*ReadFile(Artifact("small/README.md")), HasSubstr("| mine, acc (12 questions) | "));
  compress.attempt = 2;
  const auto again = JobFixture::Run(compress);
  ASSERT_OK(again);
  EXPECT_EQ(again->before.tasks[0].metrics[0].value, result->before.tasks[0].metrics[0].value);
  EXPECT_EQ(again->artifacts[0].figures.tasks[0].items, 12);
  compress.measure.tasks.push_back(compress.measure.tasks[0]);
  EXPECT_STATUS(testing::PlanCompress(compress), kInvalidArgument, kInvalidField, {"mine"});
}

}  // namespace
}  // namespace svdllm
