// Requests in files.
#include "client/cli/recipe.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>

#include <filesystem>
#include <fstream>

#include "client/cli/json_output.h"
#include "submit_fixture.h"
#include "tests/support/temp_dir.h"

namespace svdllm::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kYaml[] = R"(# kept in a repository
model: ../models/small
method: svd_llm          # as a flag is written
output_format: OUTPUT_FORMAT_DENSE
keep_ratios: [0.8, 0.6]
timeout: 1h30m
labels: {team: x, run: 1.0}
calibration:
  text: {uri: texts/wiki.txt, packing: documents}
  samples: 64
  seed: 0
  firstDocument: 5
evaluation:
  tasks:
  - name: wikitext2
    dataset:
      uri: /data/wiki.raw
    limit: 3
  - {name: openbookqa, dataset: {uri: obqa.jsonl}, fewshot_uri: file:///x, num_fewshot: 2}
)";

constexpr char kRequest[] = R"(
    model: '/models/small' method: METHOD_SVD_LLM output_format: OUTPUT_FORMAT_DENSE
    keep_ratios: 0.8 keep_ratios: 0.6 timeout { seconds: 5400 }
    labels { key: 'team' value: 'x' } labels { key: 'run' value: '1.0' }
    calibration { text { uri: '/recipes/texts/wiki.txt' packing: PACKING_DOCUMENTS }
                  samples: 64 seed: 0 first_document: 5 }
    evaluation {
      tasks { name: 'wikitext2' dataset { uri: '/data/wiki.raw' } limit: 3 }
      tasks { name: 'openbookqa' dataset { uri: '/recipes/obqa.jsonl' } fewshot_uri: 'file:///x'
              num_fewshot: 2 } })";

std::string ErrorOf(const std::string& text) {
  v1::CompressModelRequest request;
  return std::string(ReadRecipe(text, &request).message());
}

TEST(RecipeTest, ErrorsNameLineAndField) {
  EXPECT_EQ(ErrorOf("model: /m\ncalibration:\n  sampels: 3\n"),
            "line 3: calibration.sampels: there is no such field, did you mean samples?");
  EXPECT_EQ(ErrorOf("model: /m\nmodel: /n\n"), "line 2: model: is given twice");
  EXPECT_EQ(ErrorOf("keep_ratios: 0.8"), "line 1: keep_ratios: is not a list, such as [1, 2]");
  EXPECT_EQ(ErrorOf("keep_ratios:\n- 0.8\n- half\n"),
            "line 3: keep_ratios[1]: 'half' is not a number");
  EXPECT_EQ(ErrorOf("method: svd_lm"),
            "line 1: method: 'svd_lm' is not one of svd|asvd|svd_llm|svd_llm_update|anchored, did "
            "you mean svd_llm?");
  EXPECT_EQ(ErrorOf("validate_only: yes"), "line 1: validate_only: 'yes' is not true or false");
  EXPECT_EQ(ErrorOf("calibration: {samples: 1.5}"),
            "line 1: calibration.samples: '1.5' is not an integer");
  EXPECT_EQ(ErrorOf("calibration: {seed: -1}"),
            "line 1: calibration.seed: '-1' is not an integer of at least 0");
  EXPECT_EQ(ErrorOf("timeout: 2h1099511627776h"),
            "line 1: timeout: '2h1099511627776h' is not a duration of at most 10,000 years");
  EXPECT_EQ(ErrorOf("timeout: soon"),
            "line 1: timeout: 'soon' is not a duration such as 90s or 1h30m");
  EXPECT_EQ(ErrorOf("labels: {a: 1, a: 2}"), "line 1: labels.a: is given twice");
  EXPECT_EQ(ErrorOf("labels: {a: [1]}"), "line 1: labels.a: is not a single value");
  EXPECT_EQ(ErrorOf("calibration:\n  sources:\n  - {text: {uri: a}, model_samples: true}\n"),
            "line 3: calibration.sources[0].model_samples: excludes text");
  EXPECT_EQ(ErrorOf("/m"), "line 1: is not a list of fields");
  EXPECT_EQ(ErrorOf(""), "is empty");
  EXPECT_EQ(ErrorOf("---\nmodel: a\n---\nmodel: b\n"), "line 3: a second document begins");
  EXPECT_EQ(ErrorOf("a: &x 1\nb: *x\n"),
            "line 1: anchors, aliases and tags of YAML are not read here");
  EXPECT_THAT(ErrorOf("model: 'a\n"), HasSubstr("line "));
  EXPECT_THAT(ErrorOf("model: /m\n\tmethod: svd\n"), HasSubstr("line 2: "));
  EXPECT_THAT(ErrorOf("model: /m\nmethod: \xff\n"), HasSubstr("line 2: invalid"));
  EXPECT_THAT(ErrorOf(std::string(2000, '[')), HasSubstr("line 1: "));
}

TEST(RecipeTest, NullIsAsIfItWereNotThere) {
  v1::CompressModelRequest request;
  ASSERT_TRUE(ReadRecipe("model: ~\nmethod: null\ncalibration:\n", &request).ok());
  EXPECT_EQ(request.ByteSizeLong(), 0u);
}

// JSON as others write it: escapes for all that is not ASCII, tabs, numbers as texts.
TEST(RecipeTest, JsonIsRead) {
  v1::CompressModelRequest request;
  const absl::Status status = ReadRecipe(
      "{\n\t\"model\": \"\\/m\\u00e9\\ud83d\\ude00\\\\u0041\",\n"
      "\t\"calibration\": {\"samples\": \"7\", \"seed\": 18446744073709551615},\n"
      "\t\"validateOnly\": true, \"method\": 3, \"timeout\": \"1.5s\"\n}",
      &request);
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(request.model(), "/mé😀\\u0041");
  EXPECT_EQ(request.calibration().samples(), 7);
  EXPECT_EQ(request.calibration().seed(), UINT64_MAX);
  EXPECT_EQ(request.method(), v1::METHOD_SVD_LLM);
  EXPECT_TRUE(request.validate_only());
  EXPECT_EQ(request.timeout().nanos(), 500'000'000);
}

// What the API's JSON mapping writes, with every field it has, is read as it reads it.
TEST(RecipeTest, TheApisJsonIsARecipe) {
  v1::CompressModelRequest request;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(kRequest, &request));
  request.set_request_id("00000000-0000-4000-8000-000000000000");
  request.set_anchor_blend(0);
  request.mutable_threshold()->set_max_perplexity_increase(1e-7);
  *request.mutable_evaluation()->mutable_tasks(0)->mutable_label() = "a: \"b\" # c\n\x01";
  for (const std::string& text : {ToJson(request), *ToRecipe(request)}) {
    v1::CompressModelRequest read;
    // "" is what the mapping prints for texts that are empty.
    ASSERT_EQ(ReadRecipe(text, &read), absl::OkStatus()) << text;
    v1::CompressModelRequest expected;
    ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(text, &expected).ok());
    EXPECT_EQ(read.DebugString(), expected.DebugString());
  }
}

class RecipeCommandTest : public SubmitTest {
 protected:
  RecipeCommandTest() { file_ = Write("r.yaml", kYaml); }
  std::string Write(const std::string& name, const std::string& text) {
    std::ofstream(temp_.path() + "/" + name) << text;
    return temp_.path() + "/" + name;
  }
  // kRequest as of this test's directory.
  std::string Expected() const {
    const std::string above = std::filesystem::path(temp_.path()).parent_path();
    std::string text = kRequest;
    for (const auto& [from, to] :
         {std::pair<std::string, std::string>{"'/models", "'" + above + "/models"},
          {"'/recipes", "'" + temp_.path()},
          {"'/recipes", "'" + temp_.path()}}) {
      text.replace(text.find(from), from.size(), to);
    }
    return text;
  }
  testing::TempDir temp_;
  std::string file_;
};

TEST_F(RecipeCommandTest, IsTheRequest) {
  const Ran ran = Run({"compress", "--request=" + file_, "--detach"});
  ASSERT_EQ(ran.exit_status, kExitOk) << ran.err;
  ExpectRequest(script().compress_requests.at(0), Expected());
}

TEST_F(RecipeCommandTest, FlagsGoBeforeIt) {
  const Ran ran = Run({"compress", "--first_document=0", "--keep_ratio=0.5", "--keep_ratio=0.4",
                       "--request=" + file_, "--method=svd", "--label=team=y", "--limit=9",
                       "--answers=openbookqa=/a", "--calibration=/own", "--output=o", "--seed=7",
                       "--timeout=1s", "--display_name=mine", "--detach"});
  ASSERT_EQ(ran.exit_status, kExitOk) << ran.err;
  v1::CompressModelRequest expected;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(Expected(), &expected));
  expected.clear_keep_ratios();
  expected.add_keep_ratios(0.5);
  expected.add_keep_ratios(0.4);
  expected.set_method(v1::METHOD_SVD);
  (*expected.mutable_labels())["team"] = "y";
  expected.mutable_timeout()->set_seconds(1);
  expected.set_output_uri("o");
  expected.set_display_name("mine");
  expected.mutable_calibration()->clear_text();
  expected.mutable_calibration()->mutable_text()->set_uri("/own");
  expected.mutable_calibration()->set_seed(7);
  expected.mutable_calibration()->set_first_document(0);
  for (v1::EvaluationTask& task : *expected.mutable_evaluation()->mutable_tasks())
    task.set_limit(9);
  expected.mutable_evaluation()->mutable_tasks(1)->set_labels_uri("/a");
  v1::CompressModelRequest sent = script().compress_requests.at(0);
  sent.clear_request_id();
  EXPECT_EQ(sent.DebugString(), expected.DebugString());
}

TEST_F(RecipeCommandTest, WhatIsMeasuredIsReplacedAsAWhole) {
  Run({"compress", "--request=" + file_, "--dataset=/t", "--detach"});
  EXPECT_EQ(script().compress_requests.at(0).evaluation().tasks_size(), 1);
  Run({"compress", "--request=" + file_, "--no_evaluation", "--detach"});
  const v1::ReportEvaluation none = script().compress_requests.at(1).evaluation();
  EXPECT_TRUE(none.disabled());
  EXPECT_EQ(none.tasks_size(), 0);
}

TEST_F(RecipeCommandTest, EvaluateTakesOneToo) {
  const std::string file = Write("e.json", R"({"model": "m", "baseline": "/b",
      "tasks": [{"name": "perplexity", "dataset": {"uri": "t.txt"}}],
      "threshold": {"maxPerplexityIncrease": 0.1}})");
  ASSERT_EQ(Run({"evaluate", "--request=" + file, "--seq_len=64", "--detach"}).exit_status,
            kExitOk);
  ExpectRequest(
      script().evaluate_requests.at(0),
      "model: '" + temp_.path() + "/m' baseline: '/b' tasks { name: 'perplexity' dataset { uri: '" +
          temp_.path() + "/t.txt' } seq_len: 64 } threshold { max_perplexity_increase: 0.1 }");
}

TEST_F(RecipeCommandTest, ErrorsAreOfUsageAndNameTheFile) {
  const std::string bad = Write("bad.yaml", "model: /m\nkeep_ratio: [0.8]\n");
  const Ran ran = Run({"compress", "--request=" + bad});
  EXPECT_EQ(ran.exit_status, kExitUsage);
  EXPECT_THAT(ran.err, HasSubstr("--request=" + bad +
                                 " line 2: keep_ratio: there is no such field, "
                                 "did you mean keep_ratios?"));
  EXPECT_THAT(Run({"compress", "--request=/no/such"}).err, HasSubstr("cannot be read"));
  EXPECT_THAT(Run({"compress", "--request=" + temp_.path()}).err, HasSubstr("cannot be read"));
  EXPECT_EQ(script().calls, 0);
  // Without a file the flags are required as ever.
  EXPECT_THAT(Run({"compress"}).err, HasSubstr("required"));
}

TEST_F(RecipeCommandTest, ARequestIsPrintedAsOne) {
  const std::vector<std::string> flags = {
      "--model=/m",   "--keep_ratio=0.8,0.7", "--calibration=2:/a", "--calibration=MODEL_SAMPLES",
      "--tasks=piqa", "--dataset=piqa=/p",    "--min_keep_ratio=0"};
  std::vector<std::string> print = {"compress", "--print_request"};
  print.insert(print.end(), flags.begin(), flags.end());
  const Ran printed = Run(print);
  ASSERT_EQ(printed.exit_status, kExitOk) << printed.err;
  EXPECT_EQ(script().calls, 0) << "it asks no server";
  const std::string file = Write("printed.json", printed.out);
  std::vector<std::string> submit = {"compress", "--detach"};
  submit.insert(submit.end(), flags.begin(), flags.end());
  Run(submit);
  Run({"compress", "--request=" + file, "--detach"});
  auto sent = script().compress_requests;
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_NE(sent[0].request_id(), sent[1].request_id());
  for (v1::CompressModelRequest& request : sent) request.clear_request_id();
  EXPECT_EQ(sent[0].DebugString(), sent[1].DebugString());
}

}  // namespace
}  // namespace svdllm::cli
