#include <gtest/gtest.h>

#include <map>

#include "tasks/load_items.h"
#include "tasks/scoring.h"
#include "tests/fuzz/mutator.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

TEST(DatasetFuzz, WhatIsReadCanBeAskedAndTheRestIsNamed) {
  testing::TempDir dir;
  const std::map<std::string, std::string> seeds = {
      {".jsonl",
       R"({"question": {"stem": "S?", "choices": [{"text": "x", "label": "A"}, {"text": "y", "label": "B"}]}, "answerKey": "B"})"
       "\n"
       R"({"question_stem": "S", "question": "S", "choices": {"text": ["x", "y"], "label": ["A", "B"]}, "answerKey": "A"})"
       "\n"
       R"({"query": "q", "choices": ["x", "y"], "gold": 1, "context_options": ["a", "b"], "continuation": "c"})"
       "\n"
       R"({"sentence": "A _ is", "option1": "x", "option2": "y", "answer": "1"})"
       "\n"
       R"({"activity_label": "a", "ctx_a": "B [x] c", "ctx_b": "D", "endings": ["e [title] f", "g"], "label": "0"})"
       "\n"
       R"({"goal": "g", "sol1": "s", "sol2": "t", "label": 1, "question": "q", "answer": "#### 3"})"
       "\n"},
      {".json",
       R"([{"Problem": "p", "options": "a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5", "correct": "e"}])"},
      {".txt", "query: a\n2\nx\ny\nz\nw\n"},
      {".csv", "Question,Correct Answers,Incorrect Answers\n\"a \"\"b\"\"\",\"c; d\",e\n"},
  };
  const std::vector<std::string> words = {"\"",
                                          "\"\"",
                                          ",",
                                          "\n",
                                          "\r\n",
                                          "{",
                                          "}",
                                          "[",
                                          "]",
                                          "null",
                                          "-1",
                                          "1e99",
                                          "99",
                                          ";",
                                          "a ) ",
                                          "e ) ",
                                          "_",
                                          "\xff",
                                          "\xed\xa0\x80",
                                          "é",
                                          "[title]",
                                          "\"gold\": 0",
                                          "\"label\"",
                                          "\"choices\"",
                                          "\"query\"",
                                          "####",
                                          std::string(1, '\0')};
  std::map<std::string, testing::Mutator> mutators;
  for (const auto& [ending, text] : seeds) {
    mutators.emplace(ending, testing::Mutator({text}, words));
  }
  int64_t read = 0;
  testing::ForFuzzSeconds([&] {
    for (auto& [ending, mutator] : mutators) {
      TaskSource source;
      source.path = dir.Write("data" + ending, mutator.Next());
      for (const TaskRow& task : Tasks()) {
        const auto items = LoadItems(task, source);
        if (!items.ok()) {
          ASSERT_EQ(ErrorReason(items.status()), kDatasetInvalid) << items.status().ToString();
          ASSERT_NE(items.status().message().find("data" + ending), std::string::npos)
              << items.status().ToString();
          continue;
        }
        for (const TaskItem& item : *items) {
          ++read;
          if (task.kind == TaskKind::kGeneration) {
            ASSERT_EQ(task.score(item, item.references[0]).size(), task.metrics.size());
            continue;
          }
          ASSERT_GE(item.choice_count(), 2);
          ASSERT_LT(item.gold, item.choice_count());
          const std::vector<double> values(item.choices.size(), -1.0);
          ASSERT_EQ(ScoreChoices(task.metrics, item, values).size(), task.metrics.size());
        }
      }
    }
  });
  EXPECT_GT(read, 0);
  RecordProperty("read", static_cast<int>(read));
}

}  // namespace
}  // namespace svdllm
