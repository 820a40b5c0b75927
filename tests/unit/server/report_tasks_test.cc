// What a compression measures: the tasks of an evaluation, and texts as they were asked for before.
#include <gmock/gmock.h>

#include <cstdio>

#include "server/report_texts.h"
#include "spec_proto_fixture.h"

// The texts are deprecated, and are what is tested.
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ReportTasksTest : public SpecProtoTest {
 protected:
  void SetUp() override {
    SpecProtoTest::SetUp();
    other_ = temp_.Write("other.text.txt", "x");
  }
  v1::ReportEvaluation& evaluation() { return *request_.mutable_evaluation(); }
  v1::EvaluationTask& AddTask(const std::string& name, const std::string& uri) {
    v1::EvaluationTask& task = *evaluation().add_tasks();
    task.set_name(name);
    task.mutable_dataset()->set_uri(uri);
    return task;
  }
  void AddTexts() {
    evaluation().mutable_text()->set_uri(text_);
    evaluation().set_seq_len(64);
    evaluation().set_limit(3);
    v1::EvaluationText& text = *evaluation().add_texts();
    text.mutable_text()->set_uri(other_);
    text.mutable_text()->set_packing(v1::PACKING_DOCUMENTS);
    text.set_seq_len(16);
    text.set_limit(2);
    v1::EvaluationText& named = *evaluation().add_texts();
    named.set_name("news");
    named.mutable_text()->set_uri(text_);
  }
  // What a specification of AddTexts() and a text "wikitext2" measures.
  void ExpectTexts(const CompressSpec& spec) {
    ASSERT_EQ(spec.measure.texts.size(), 4u);
    EXPECT_EQ(spec.measure.texts[0].name, "perplexity");
    EXPECT_EQ(spec.measure.texts[0].text.path, text_);
    EXPECT_EQ(spec.measure.texts[0].seq_len, 64);
    EXPECT_EQ(spec.measure.texts[0].limit, 3);
    EXPECT_EQ(spec.measure.texts[1].name, "other.text");
    EXPECT_EQ(spec.measure.texts[1].text.path, other_);
    EXPECT_EQ(spec.measure.texts[1].text.packing, Packing::kDocuments);
    EXPECT_EQ(spec.measure.texts[1].seq_len, 16);
    EXPECT_EQ(spec.measure.texts[1].limit, 2);
    EXPECT_EQ(spec.measure.texts[2].name, "news");
    EXPECT_EQ(spec.measure.texts[2].text.rows, TextRows::kWhole);
    EXPECT_EQ(spec.measure.texts[3].name, "wikitext2");
    EXPECT_EQ(spec.measure.texts[3].text.rows, TextRows::kWikiTextRows);
    ASSERT_EQ(spec.measure.tasks.size(), 1u);
    EXPECT_EQ(spec.measure.tasks[0].name, "questions");
  }

  std::string other_;
};

TEST_F(ReportTasksTest, TakeTextsAndQuestionsAsAnEvaluationDoes) {
  AddTask("wikitext2", text_).set_seq_len(32);
  AddTask("openbookqa", other_).set_label("questions");
  AddTask("c4", other_).mutable_dataset()->set_text_field("body");
  AddTask("perplexity", other_).set_label("held_in");
  ASSERT_TRUE(Resolve().ok()) << Resolve();
  v1::EvaluateRequest evaluate;
  evaluate.set_model(model_);
  *evaluate.mutable_tasks() = evaluation().tasks();
  const auto compression = ToSpec(request_, *store_, "");
  const auto measured = ToSpec(evaluate, *store_, "");
  ASSERT_TRUE(compression.ok() && measured.ok()) << compression.status() << measured.status();
  for (const MeasureSpec& spec : {compression->measure, measured->measure}) {
    ASSERT_EQ(spec.texts.size(), 3u);
    EXPECT_EQ(spec.texts[0].name, "wikitext2");
    EXPECT_EQ(spec.texts[0].text.rows, TextRows::kWikiTextRows);
    EXPECT_EQ(spec.texts[0].seq_len, 32);
    EXPECT_EQ(spec.texts[1].text.max_documents, 2000);
    EXPECT_EQ(spec.texts[1].text.text_field, "body");
    EXPECT_EQ(spec.texts[2].name, "held_in");
    ASSERT_EQ(spec.tasks.size(), 1u);
    EXPECT_EQ(spec.tasks[0].task, "openbookqa");
    EXPECT_EQ(spec.tasks[0].name, "questions");
  }
}

TEST_F(ReportTasksTest, TextsBecomeTasksInFrontOfTheOthers) {
  AddTask("wikitext2", text_);
  AddTask("openbookqa", text_).set_label("questions");
  AddTexts();
  ASSERT_TRUE(Resolve().ok()) << Resolve();
  EXPECT_FALSE(evaluation().has_text());
  EXPECT_EQ(evaluation().texts_size(), 0);
  EXPECT_EQ(evaluation().seq_len(), 0);
  EXPECT_EQ(evaluation().limit(), 0);
  std::vector<std::string> labels, names;
  for (const v1::EvaluationTask& task : evaluation().tasks()) {
    labels.push_back(task.label());
    names.push_back(task.name());
  }
  EXPECT_THAT(labels, ElementsAre("perplexity", "other.text", "news", "wikitext2", "questions"));
  EXPECT_THAT(names,
              ElementsAre("perplexity", "perplexity", "perplexity", "wikitext2", "openbookqa"));
  EXPECT_EQ(evaluation().tasks(0).dataset().uri(), "file://" + text_);
  const std::string once = request_.SerializeAsString();
  request_.clear_output_uri();
  ASSERT_TRUE(Resolve().ok());
  EXPECT_EQ(request_.SerializeAsString(), once);
  const auto spec = ToSpec(request_, *store_, "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  ExpectTexts(*spec);
  std::remove(other_.c_str());
  EXPECT_THAT(std::string(ToSpec(request_, *store_, "").status().message()),
              HasSubstr("evaluation.tasks[1].dataset: "));
}

// As servers stored it when a resolved request still had texts.
TEST_F(ReportTasksTest, StoredTextsAreMeasuredAsTheyWereMeant) {
  ASSERT_TRUE(Resolve().ok());
  AddTexts();
  evaluation().mutable_texts(0)->set_name("other.text");
  AddTask("wikitext2", text_).set_label("wikitext2");
  AddTask("openbookqa", text_).set_label("questions");
  const auto spec = ToSpec(request_, *store_, "");
  ASSERT_TRUE(spec.ok()) << spec.status();
  ExpectTexts(*spec);
  evaluation().set_disabled(true);
  EXPECT_TRUE(ToSpec(request_, *store_, "")->measure.texts.empty());
}

TEST_F(ReportTasksTest, ErrorsAreInTheWordsOfTheCaller) {
  const v1::CompressModelRequest good = request_;
  const auto refused = [&](auto change, const std::string& words) {
    request_ = good;
    AddTexts();
    AddTask("wikitext2", text_);
    change(evaluation());
    EXPECT_THAT(std::string(Resolve().message()), HasSubstr(words));
  };
  using Evaluation = v1::ReportEvaluation;
  refused([](Evaluation& e) { e.mutable_text()->clear_uri(); }, "evaluation.text.uri: is required");
  refused([](Evaluation& e) { e.set_seq_len(1); }, "evaluation.seq_len: must be");
  refused([](Evaluation& e) { e.set_limit(-1); }, "evaluation.limit: must be");
  refused([](Evaluation& e) { e.clear_text(); }, "evaluation.seq_len: belongs to evaluation.text");
  refused([](Evaluation& e) { e.mutable_texts(1)->clear_text(); },
          "evaluation.texts[1].text.uri: is required");
  refused([](Evaluation& e) { e.mutable_texts(1)->set_name("perplexity"); },
          "evaluation.texts[1].name: \"perplexity\" is another task's already");
  refused([](Evaluation& e) { e.mutable_texts(1)->set_limit(-1); }, "evaluation.texts[1].limit: ");
  refused([](Evaluation& e) { e.mutable_texts(0)->set_seq_len(1); },
          "evaluation.texts[0].seq_len: ");
  refused([](Evaluation& e) { e.mutable_texts(0)->set_name("held_out_perplexity_wiki"); },
          "evaluation.texts[0].name: must not begin with held_out_perplexity");
  refused([](Evaluation& e) { e.mutable_tasks(0)->set_label("held_out_perplexity"); },
          "evaluation.tasks[0].label: must not begin with held_out_perplexity");
  refused([](Evaluation& e) { e.mutable_tasks(0)->set_label("news"); },
          "evaluation.tasks[0].label: \"news\" is another");
  refused([](Evaluation& e) { e.mutable_tasks(0)->set_name("wikitext3"); },
          "evaluation.tasks[0].name: \"wikitext3\" is not a task");
  refused([](Evaluation& e) { e.mutable_tasks(0)->set_name(std::string(300, 'x')); },
          "evaluation.tasks[0].name: has 300 bytes, and at most 256");
  refused([](Evaluation& e) { e.mutable_tasks(0)->set_label(std::string(300, 'x')); },
          "evaluation.tasks[0].label: has 300 bytes, and at most 256");
  refused([](Evaluation& e) { e.mutable_tasks(0)->set_labels_uri("x"); },
          "evaluation.tasks[0].labels_uri: a text has no labels");
  refused(
      [](Evaluation& e) {
        for (int i = 0; i < 30; ++i) {
          *e.add_tasks() = e.tasks(0);
          e.mutable_tasks(i + 1)->set_label(std::to_string(i));
        }
      },
      "evaluation.tasks: at most 32, texts among them");
  refused(
      [](Evaluation& e) {
        while (e.texts_size() < 100) e.add_texts();
      },
      "evaluation.texts: at most 32");
}

TEST_F(ReportTasksTest, AnEvaluationsLabelsMayBeAnything) {
  v1::EvaluateRequest request;
  request.set_model(model_);
  v1::EvaluationTask& task = *request.add_tasks();
  task.set_name("perplexity");
  task.set_label("held_out_perplexity");
  task.mutable_dataset()->set_uri(text_);
  EXPECT_TRUE(ResolveRequest(*store_, "default", request).ok());
}

}  // namespace
}  // namespace svdllm
