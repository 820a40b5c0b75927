// Each dataset's forms: small files of the same shape with questions of our own.
#include <gmock/gmock.h>

#include "tasks/load_items.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;

class ReadersTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::vector<TaskItem>> Load(const std::string& task, const std::string& file,
                                             const std::string& content,
                                             const std::string& labels = "") {
    TaskSource source;
    source.path = dir_.Write(file, content);
    if (!labels.empty()) source.labels_path = dir_.Write("labels.lst", labels);
    return LoadItems(**FindTask(task), source);
  }
  TaskItem One(const std::string& task, const std::string& file, const std::string& content,
               const std::string& labels = "") {
    auto items = Load(task, file, content, labels);
    EXPECT_OK(items);
    if (!items.ok() || items->size() != 1) return {};
    return items->front();
  }
  testing::TempDir dir_;
};

TEST_F(ReadersTest, OpenBookQa) {
  const std::string choices = R"([{"text": "dry", "label": "A"}, {"text": "wet", "label": "B"}])";
  const TaskItem own = One("openbookqa", "test.jsonl",
                           R"({"id": "1", "question": {"stem": "Water is", "choices": )" + choices +
                               R"(}, "answerKey": "B"})");
  EXPECT_THAT(own.contexts, ElementsAre("Water is"));
  EXPECT_THAT(own.continuations, ElementsAre(" dry", " wet"));
  EXPECT_THAT(own.choices, ElementsAre("dry", "wet"));
  EXPECT_EQ(own.gold, 1);
  const TaskItem hub = One(
      "openbookqa", "test.jsonl",
      R"({"question_stem": "Water is", "choices": {"text": ["dry", "wet"], "label": ["A", "B"]}, "answerKey": " B"})");
  EXPECT_EQ(hub.contexts, own.contexts);
  EXPECT_EQ(hub.gold, 1);
}

TEST_F(ReadersTest, Arc) {
  const TaskItem own = One(
      "arc_easy", "test.jsonl",
      R"({"question": {"stem": "Why?", "choices": [{"text": "x", "label": "1"}, {"text": "y", "label": "2"}, {"text": "z", "label": "3"}]}, "answerKey": "3"})");
  EXPECT_THAT(own.contexts, ElementsAre("Question: Why?\nAnswer:"));
  EXPECT_EQ(own.gold, 2);
  const TaskItem hub = One(
      "arc_challenge", "test.jsonl",
      R"({"question": "Why?", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "A"})");
  EXPECT_EQ(hub.contexts, own.contexts);
  const TaskItem encoded = One("arc_easy", "arc.jsonl",
                               R"({"query": "Question: Why?", "choices": ["x", "y"], "gold": 1})");
  EXPECT_EQ(encoded.contexts, own.contexts);
  EXPECT_THAT(encoded.continuations, ElementsAre(" x", " y"));
}

TEST_F(ReadersTest, WinoGrande) {
  const std::string sentence =
      R"({"sentence": "The cup fell off the table, so the _ broke.", "option1": "cup", "option2": "table")";
  const TaskItem answered = One("winogrande", "dev.jsonl", sentence + R"(, "answer": "1"})");
  EXPECT_THAT(answered.contexts, ElementsAre("The cup fell off the table, so the cup",
                                             "The cup fell off the table, so the table"));
  EXPECT_THAT(answered.continuations, ElementsAre(" broke."));
  EXPECT_EQ(answered.gold, 0);
  EXPECT_EQ(answered.choice_count(), 2);
  EXPECT_EQ(answered.context(1), answered.contexts[1]);
  EXPECT_EQ(answered.continuation(1), " broke.");
  EXPECT_EQ(One("winogrande", "dev.jsonl", sentence + "}", "2\n").gold, 1);
  const TaskItem encoded = One(
      "winogrande", "w.jsonl",
      R"({"context_options": ["so the cup", "so the table"], "continuation": "broke.", "gold": 0})");
  EXPECT_THAT(encoded.continuations, ElementsAre(" broke."));
  EXPECT_STATUS(Load("winogrande", "dev.jsonl", sentence + "}"), kInvalidArgument, kDatasetInvalid,
                {"line 1", "'answer'", "labels"});
  EXPECT_STATUS(Load("winogrande", "dev.jsonl", sentence + "}", "3"), kInvalidArgument,
                kDatasetInvalid, {"line 1", "none of the 2"});
}

TEST_F(ReadersTest, HellaSwag) {
  const TaskItem own = One(
      "hellaswag", "hellaswag_val.jsonl",
      R"({"ind": 4, "activity_label": "Baking cookies", "ctx_a": "[header] How to bake [title] Mix  the dough. ", "ctx_b": "éclairs ARE Nice [step] then", "ctx": "unused", "endings": [" fold [substeps] it. ", "wait   long"], "label": 1})");
  EXPECT_THAT(own.contexts,
              ElementsAre("Baking cookies: How to bake. Mix the dough. Éclairs are nice then"));
  EXPECT_THAT(own.choices, ElementsAre("fold it.", "wait  long"));
  EXPECT_EQ(own.gold, 1);
  const auto lines =
      Load("hellaswag", "hellaswag.txt",
           "Baking: first\r\n2\r\na\r\nb\r\nc\r\nd\r\nBaking: second\n0\na\nb\nc\nd\n\n");
  ASSERT_OK(lines);
  ASSERT_EQ(lines->size(), 2u);
  EXPECT_THAT((*lines)[0].contexts, ElementsAre("Baking: first"));
  EXPECT_THAT((*lines)[0].continuations, ElementsAre(" a", " b", " c", " d"));
  EXPECT_EQ((*lines)[0].gold, 2);
  EXPECT_STATUS(Load("hellaswag", "hellaswag.txt", "q\n0\na\nb\nc\n"), kInvalidArgument,
                kDatasetInvalid, {"hellaswag.txt: line 1", "six lines"});
}

TEST_F(ReadersTest, Piqa) {
  const std::string rows =
      "{\"goal\": \"Open a jar\", \"sol1\": \"twist\", \"sol2\": \"shout\"}\n\n"
      "{\"goal\": \"Close it\", \"sol1\": \"shout\", \"sol2\": \"twist\"}\n";
  const auto items = Load("piqa", "valid.jsonl", rows, "0\n1\n");
  ASSERT_OK(items);
  ASSERT_EQ(items->size(), 2u);
  EXPECT_THAT((*items)[0].contexts, ElementsAre("Question: Open a jar\nAnswer:"));
  EXPECT_THAT((*items)[0].continuations, ElementsAre(" twist", " shout"));
  EXPECT_EQ((*items)[1].gold, 1);
  EXPECT_STATUS(Load("piqa", "valid.jsonl", rows, "0\n"), kInvalidArgument, kDatasetInvalid,
                {"labels.lst", "1 labels for 2 questions"});
  EXPECT_STATUS(Load("piqa", "valid.jsonl", rows, "0\n1\n1\n"), kInvalidArgument, kDatasetInvalid,
                {"3 labels for 2"});
  EXPECT_STATUS(Load("piqa", "valid.jsonl", rows), kInvalidArgument, kDatasetInvalid,
                {"line 1", "'label'"});
}

TEST_F(ReadersTest, MathQa) {
  const auto items = Load(
      "mathqa", "test.json",
      R"x([{"Problem": "1 + 1 ?", "options": "a ) 1 , b ) 2 , c ) 1 , 5 , d ) rs . 4 , e ) none of these", "correct": "b"},
          {"Problem": "2 ?", "options": "a ) a ) 2 , b ) b ) 3 , c ) c ) 4 , d ) d ) 5 , e ) e ) 6", "correct": "e"},
          {"Problem": "3 ?", "options": "a ) 1 , b ) 2 , c ) 3 , d ) 4 , e )", "correct": "c"}])x");
  ASSERT_OK(items);
  EXPECT_THAT((*items)[0].contexts, ElementsAre("Question: 1 + 1 ?\nAnswer:"));
  EXPECT_THAT((*items)[0].choices, ElementsAre("1", "2", "1", "rs . 4", "none of these"));
  EXPECT_EQ((*items)[0].gold, 1);
  EXPECT_THAT((*items)[1].choices, ElementsAre("a ) 2", "b ) 3", "c ) 4", "d ) 5", "e ) 6"));
  EXPECT_EQ((*items)[1].gold, 4);
  EXPECT_EQ((*items)[2].choices.size(), 4u);  // "e )" without a space behind it is no choice
  EXPECT_STATUS(Load("mathqa", "test.json",
                     R"x([{"Problem": "1 ?", "options": "a ) 1 , b ) 2", "correct": "f"}])x"),
                kInvalidArgument, kDatasetInvalid, {"element 0"});
}

TEST_F(ReadersTest, TruthfulQa) {
  const TaskItem item = One("truthfulqa_gen", "TruthfulQA.csv",
                            "\xEF\xBB\xBFType,Question,Correct Answers,Incorrect Answers\r\n"
                            "X,\" Is \"\"it\"\" so? \",Yes; It is so.;,\"No; Never, ever ; \"\r\n");
  ASSERT_EQ(item.contexts.size(), 1u);
  EXPECT_THAT(item.contexts[0], ::testing::EndsWith("Barcelona, Spain.\n\nQ: Is \"it\" so?"));
  EXPECT_THAT(item.contexts[0], ::testing::StartsWith("Q: What is human life expectancy"));
  EXPECT_THAT(item.references, ElementsAre("Yes.", "It is so.", "I have no comment."));
  EXPECT_THAT(item.wrong_references, ElementsAre("No.", "Never, ever."));
  const TaskItem hub = One(
      "truthfulqa_gen", "q.jsonl",
      R"({"question": "Is it so?", "correct_answers": ["I have no comment."], "incorrect_answers": ["No"]})");
  EXPECT_THAT(hub.references, ElementsAre("I have no comment."));
  EXPECT_STATUS(Load("truthfulqa_gen", "TruthfulQA.csv", "Question,Correct Answers\na,b,c\n"),
                kInvalidArgument, kDatasetInvalid, {"line 2", "3 fields, not 2"});
  EXPECT_STATUS(Load("truthfulqa_gen", "TruthfulQA.csv", "Question,Correct Answers\na,b\n"),
                kInvalidArgument, kDatasetInvalid, {"line 2", "'Incorrect Answers'"});
}

TEST_F(ReadersTest, Gsm8k) {
  const TaskItem item =
      One("gsm8k", "test.jsonl", R"({"question": "2 and 2?", "answer": "2+2=4\n#### 4"})");
  EXPECT_THAT(item.contexts, ElementsAre("Question: 2 and 2?\nAnswer:"));
  EXPECT_THAT(item.references, ElementsAre("2+2=4\n#### 4"));
  EXPECT_STATUS(Load("gsm8k", "test.jsonl", R"({"question": "2 and 2?", "answer": "4"})"),
                kInvalidArgument, kDatasetInvalid, {"line 1", "'answer'", "####"});
}

TEST_F(ReadersTest, GenericChoice) {
  const TaskItem item = One("multiple_choice", "own.jsonl",
                            R"({"query": "A:", "choices": ["x", "y", "z"], "gold": 2})");
  EXPECT_THAT(item.contexts, ElementsAre("A:"));
  EXPECT_THAT(item.continuations, ElementsAre(" x", " y", " z"));
  EXPECT_EQ(item.gold, 2);
  const struct {
    const char *line, *word;
  } faults[] = {
      {R"({"query": "A:", "choices": ["x", "y"], "gold": 2})", "none of the 2"},
      {R"({"query": "A:", "choices": ["x", "y"], "gold": -1})", "none of the 2"},
      {R"({"query": "A:", "choices": ["x"], "gold": 0})", "fewer than two"},
      {R"({"query": "A:", "choices": "xy", "gold": 0})", "'choices' is not a list"},
      {R"({"query": "A:", "choices": ["x", 1], "gold": 0})", "'choices' is not a list"},
      {R"({"query": 3, "choices": ["x", "y"], "gold": 0})", "'query' is not a string"},
      {R"({"query": "A:", "choices": ["x", "y"], "gold": 0.5})", "'gold' is not a whole"},
      {R"({"query": "A:", "choices": ["x", "y"]})", "no field 'gold'"},
      {R"({"context_options": ["x"], "continuation": "y", "gold": 0})", "fewer than two"},
      {R"(["x"])", "JSON"},
      {R"({"query": )", "not valid JSON"},
  };
  for (const auto& fault : faults) {
    const std::string good = R"({"query": "A:", "choices": ["x", "y"], "gold": 1})";
    EXPECT_STATUS(Load("multiple_choice", "own.jsonl", good + "\n" + fault.line + "\n"),
                  kInvalidArgument, kDatasetInvalid, {"own.jsonl: line 2", fault.word})
        << fault.line;
  }
}

}  // namespace
}  // namespace svdllm
