#include "tasks/load_items.h"

#include <gmock/gmock.h>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;

std::string Question(int number) {
  const std::string n = std::to_string(number);
  return R"({"query": "Q)" + n + R"(", "choices": ["a", "b)" + n + R"("], "gold": 1})" + "\n";
}

class LoadItemsTest : public ::testing::Test {
 protected:
  absl::StatusOr<std::vector<TaskItem>> Load(const std::string& task, TaskSource source) {
    if (source.path.empty()) source.path = dir_.Write("q.jsonl", Question(1) + Question(2));
    return LoadItems(**FindTask(task), source);
  }
  testing::TempDir dir_;
};

TEST_F(LoadItemsTest, LimitReadsNoFurther) {
  TaskSource source;
  source.path = dir_.Write("half.jsonl", Question(1) + Question(2) + "{broken");
  source.limit = 2;
  EXPECT_EQ(Load("multiple_choice", source)->size(), 2u);
  source.limit = 0;
  EXPECT_STATUS(Load("multiple_choice", source), kInvalidArgument, kDatasetInvalid, {"line 3"});
}

TEST_F(LoadItemsTest, ExamplesStandInFront) {
  TaskSource source;
  source.examples_path = dir_.Write("train.jsonl", Question(7) + Question(8) + Question(9));
  source.examples = 2;
  const auto items = Load("multiple_choice", source);
  ASSERT_OK(items);
  EXPECT_THAT((*items)[1].contexts, ElementsAre("Q7 b7\n\nQ8 b8\n\nQ2"));
  source.examples = 4;
  EXPECT_STATUS(Load("multiple_choice", source), kInvalidArgument, kDatasetInvalid,
                {"train.jsonl", "3 examples", "4"});

  TaskSource partial;
  partial.path = dir_.Write(
      "w.jsonl", R"({"context_options": ["it", "he"], "continuation": "ran.", "gold": 1})");
  partial.examples_path = partial.path;
  partial.examples = 1;
  EXPECT_THAT(Load("winogrande", partial)->front().contexts,
              ElementsAre("he ran.\n\nit", "he ran.\n\nhe"));

  TaskSource sums;
  sums.path = sums.examples_path =
      dir_.Write("g.jsonl", R"({"question": "1+1?", "answer": "It is\n#### 2"})");
  sums.examples = 1;
  EXPECT_THAT(Load("gsm8k", sums)->front().contexts,
              ElementsAre("Question: 1+1?\nAnswer: It is\n#### 2\n\nQuestion: 1+1?\nAnswer:"));
}

TEST_F(LoadItemsTest, RefusesWhatATaskCannotHave) {
  TaskSource source;
  source.labels_path = dir_.Write("labels", "1\n");
  EXPECT_STATUS(Load("multiple_choice", source), kInvalidArgument, kInvalidField,
                {"multiple_choice", "labels"});
  source = {};
  source.examples = 1;
  EXPECT_STATUS(Load("multiple_choice", source), kInvalidArgument, kInvalidField,
                {"needs a file of examples"});
  source.examples_path = "x";
  EXPECT_STATUS(Load("truthfulqa_gen", source), kInvalidArgument, kInvalidField,
                {"truthfulqa_gen", "examples of its own"});
  source = {};
  source.limit = -1;
  EXPECT_STATUS(Load("multiple_choice", source), kInvalidArgument, kInvalidField, {"limit"});
  EXPECT_STATUS(FindTask("triviaqa"), kInvalidArgument, kInvalidField,
                {"'triviaqa'", "openbookqa", "gsm8k", "multiple_choice"});
}

TEST_F(LoadItemsTest, RefusesFilesThatAreNotDatasets) {
  TaskSource source;
  source.path = dir_.File("absent.jsonl");
  EXPECT_STATUS(Load("piqa", source), kNotFound, kDatasetInvalid, {"absent.jsonl"});
  source.path = dir_.Write("h.txt.bz2", "BZh9");
  EXPECT_STATUS(Load("hellaswag", source), kInvalidArgument, kDatasetInvalid,
                {"h.txt.bz2", "decompress"});
  source.path = dir_.Write("empty.jsonl", "\n \n");
  EXPECT_STATUS(Load("piqa", source), kInvalidArgument, kDatasetInvalid,
                {"empty.jsonl", "no questions"});
  source.path = dir_.Write("latin.jsonl", Question(1) + "{\"query\": \"\xe9\"}\n");
  EXPECT_STATUS(Load("multiple_choice", source), kInvalidArgument, kDatasetInvalid,
                {"latin.jsonl: line 2", "UTF-8"});
}

}  // namespace
}  // namespace svdllm
