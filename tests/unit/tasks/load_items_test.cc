#include "tasks/load_items.h"

#include <gmock/gmock.h>

#include "tests/support/packed.h"
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

TEST_F(LoadItemsTest, CompressedFilesAreReadAsTheirNamesSay) {
  const std::string questions = Question(1) + Question(2);
  const std::string six = "query: a\n2\nx\ny\nz\nw\n";
  TaskSource source;
  for (const auto& [name, bytes] : {std::pair<const char*, std::string>{"a.JSONL", questions},
                                    {"a.jsonl.gz", testing::Gzip(questions)},
                                    {"a.ndjson.zst", testing::Zstd("\xef\xbb\xbf" + questions)}}) {
    source.path = dir_.Write(name, bytes);
    const auto items = Load("multiple_choice", source);
    ASSERT_OK(items);
    EXPECT_EQ(items->size(), 2u) << name;
  }
  source.path = dir_.Write("h.TXT.gz", testing::Gzip(six));
  EXPECT_OK(Load("hellaswag", source));
  source.path =
      dir_.Write("t.csv.zst", testing::Zstd("Question,Correct Answers,Incorrect Answers\na,b,c\n"));
  EXPECT_OK(Load("truthfulqa_gen", source));
  source = {};
  source.path = dir_.Write("p.jsonl", R"({"goal": "g", "sol1": "s", "sol2": "t", "score": NaN})");
  source.labels_path = dir_.Write("labels.lst.gz", testing::Gzip("1\n"));
  EXPECT_OK(Load("piqa", source));
}

TEST_F(LoadItemsTest, FilesAreNamedForWhatTheyAre) {
  TaskSource source;
  const auto refuses = [&](const char* task, const std::string& name, const std::string& bytes,
                           std::initializer_list<std::string_view> parts) {
    source.path = dir_.Write(name, bytes);
    EXPECT_STATUS(Load(task, source), kInvalidArgument, kDatasetInvalid, parts);
  };
  refuses("piqa", "a.parquet", "PAR1\x15\x04", {"a.parquet", "read_parquet(\"a.parquet\")"});
  refuses("piqa", "a.jsonl", testing::Gzip(Question(1)), {"a.jsonl", "gzip", "does not say"});
  refuses("multiple_choice", "b.jsonl", "query,choices,gold\nq,a,0\n", {"line 1", "read_csv"});
  refuses("hellaswag", "h.txt", Question(1), {"h.txt", "JSON lines", ".jsonl"});
  refuses("multiple_choice", "c.jsonl", Question(1) + "{\"query\": \"\\ud83d\"}",
          {"c.jsonl: line 2, column 18", "surrogate"});
  refuses("piqa", "d.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n",
          {"git lfs pull"});
  source.labels_path = dir_.Write("labels.lst", std::string("\xff\xfe\x31\0", 4));
  source.path = dir_.Write("e.jsonl", R"({"goal": "g", "sol1": "s", "sol2": "t"})");
  EXPECT_STATUS(Load("piqa", source), kInvalidArgument, kDatasetInvalid, {"labels.lst", "UTF-16"});
}

}  // namespace
}  // namespace svdllm
