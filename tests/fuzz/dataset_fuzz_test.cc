#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "tasks/load_items.h"
#include "tasks/scoring.h"
#include "tests/fuzz/mutator.h"
#include "tests/support/packed.h"
#include "tests/support/temp_dir.h"
#include "text/json_rows.h"
#include "text/text_file.h"

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

// Texts in every form that is read and some that are not: what comes out is UTF-8, and an error has
// a reason and the file's name.
TEST(DatasetFuzz, ATextIsReadOrNamed) {
  testing::TempDir dir;
  const std::string lines = "{\"text\": \"Once upon a time\"}\n{\"text\": \"there was é\"}\n";
  std::string wide = "\xff\xfe";
  for (const char c : lines) wide += {c, '\0'};
  const std::map<std::string, std::vector<std::string>> seeds = {
      {".jsonl", {lines, "\xef\xbb\xbf" + lines, wide}},
      {".json", {"[\"one\", {\"text\": \"two\"}, {\"text\": [NaN, {}]}]", lines}},
      {".txt", {"Once upon a time\nthere was é\n", "\xef\xbb\xbf" + lines, wide, "PAR1\x15\x04"}},
      {".jsonl.gz", {testing::Gzip(lines), testing::Gzip("a") + testing::Gzip(lines)}},
      {".json.zst", {testing::Zstd(lines), testing::Zstd("[") + testing::Zstd("\"a\"]")}},
      {".txt.zst", {testing::Zstd(std::string(300000, 'x')), testing::Zstd(wide)}},
  };
  const std::vector<std::string> words = {"\xef\xbb\xbf",
                                          "\xff\xfe",
                                          "\x1f\x8b\x08",
                                          "\x28\xb5\x2f\xfd",
                                          "PAR1",
                                          "ARROW1",
                                          "<html",
                                          "[",
                                          "]",
                                          "{",
                                          "\"",
                                          "\\ud83d",
                                          "NaN",
                                          "-Infinity",
                                          "\n",
                                          "\xed\xa0\x80",
                                          testing::Gzip("x"),
                                          testing::Zstd("x"),
                                          std::string(4, '\0')};
  std::map<std::string, testing::Mutator> mutators;
  for (const auto& [ending, texts] : seeds) {
    mutators.emplace(ending, testing::Mutator(texts, words));
  }
  int64_t read = 0;
  testing::ForFuzzSeconds([&] {
    for (auto& [ending, mutator] : mutators) {
      const std::string path = dir.Write("data" + ending, mutator.Next());
      for (const int64_t first_bytes : {int64_t{0}, int64_t{20}}) {
        const auto file = ReadTextFile(path, {1 << 20, first_bytes});
        absl::Status status = file.status();
        if (file.ok()) {
          ++read;
          ASSERT_TRUE(IsValidUtf8(file->text));
          ASSERT_TRUE(first_bytes > 0 || file->whole);
          ASSERT_LE(file->text.size(), first_bytes > 0 ? 20u : 1u << 20);
          status = ReadJsonRows(*file, 0, [](const std::string&, const nlohmann::json& value) {
            EXPECT_FALSE(value.dump().empty());
            return absl::OkStatus();
          });
        }
        if (status.ok()) continue;
        ASSERT_EQ(ErrorReason(status), kDatasetInvalid) << status.ToString();
        ASSERT_NE(status.message().find("data" + ending), std::string::npos) << status.ToString();
      }
    }
  });
  EXPECT_GT(read, 0);
  RecordProperty("read", static_cast<int>(read));
}

}  // namespace
}  // namespace svdllm
