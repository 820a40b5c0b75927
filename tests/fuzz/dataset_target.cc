#include "tasks/load_items.h"
#include "tasks/scoring.h"
#include "tests/fuzz/targets.h"

namespace svdllm::testing {
namespace {

constexpr std::string_view kEndings[] = {".jsonl", ".json", ".txt", ".csv"};

void Use(const TaskRow& task, const TaskItem& item) {
  const std::string name(task.name);
  if (task.kind == TaskKind::kGeneration) {
    FUZZ_CHECK(task.score(item, item.references[0]).size() == task.metrics.size(), name);
    return;
  }
  FUZZ_CHECK(item.choice_count() >= 2, name);
  FUZZ_CHECK(item.gold >= 0 && item.gold < item.choice_count(), name);
  const std::vector<double> values(item.choices.size(), -1.0);
  FUZZ_CHECK(ScoreChoices(task.metrics, item, values).size() == task.metrics.size(), name);
}

// The first byte says how the file is called.
void Run(std::string_view bytes) {
  if (bytes.empty()) return;
  static FuzzDirectory directory;
  const auto first = static_cast<unsigned char>(bytes[0]);
  const std::string name = "data" + std::string(kEndings[first % std::size(kEndings)]);
  TaskSource source;
  source.path = directory.Put(name, bytes.substr(1));
  for (const TaskRow& task : Tasks()) {
    const auto items = LoadItems(task, source);
    if (!items.ok()) {
      CheckRefusal(items.status(), {kDatasetInvalid});
      FUZZ_CHECK(items.status().message().find(name) != std::string::npos,
                 items.status().ToString());
      continue;
    }
    for (const TaskItem& item : *items) Use(task, item);
  }
}

}  // namespace

FuzzTarget DatasetTarget() {
  std::vector<std::string> seeds = {
      std::string(1, '\0') +
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
          "\n",
      std::string(1, '\1') +
          R"([{"Problem": "p", "options": "a ) 1 , b ) 2 , c ) 3 , d ) 4 , e ) 5", "correct": "e"}])",
      std::string(1, '\2') + "query: a\n2\nx\ny\nz\nw\n",
      std::string(1, '\3') +
          "Question,Correct Answers,Incorrect Answers\n\"a \"\"b\"\"\",\"c; d\",e\n",
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
  return {"dataset", Run, seeds, words};
}

}  // namespace svdllm::testing
