#include "evaluate/prompts.h"

#include <gmock/gmock.h>

#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using Ids = std::vector<int32_t>;

class TaskPromptsTest : public JobFixture {
 protected:
  void SetUp() override {
    JobFixture::SetUp();
    tokenizer_ = std::make_unique<Tokenizer>(*Tokenizer::Load(model_));
    config_.max_position_embeddings = 32;
    config_.vocab_size = 260;
  }
  Ids Encode(const std::string& text) { return *tokenizer_->Encode(text, false); }
  absl::StatusOr<TaskData> Load(const std::string& task, const std::string& line) {
    TaskSpec spec;
    spec.task = task;
    spec.name = "asked";
    spec.path = dir_.Write("q.jsonl", line);
    return LoadTask(spec, *tokenizer_, config_);
  }
  // Of {"query": query, "choices": [choice, "z"], "gold": 0}, the first choice.
  EncodedChoice First(const std::string& query, const std::string& choice) {
    const auto data = Load("multiple_choice", R"({"query": ")" + query + R"(", "choices": [")" +
                                                  choice + R"(", "z"], "gold": 0})");
    EXPECT_OK(data);
    return data.ok() ? data->choices[0][0] : EncodedChoice();
  }
  static Ids Joined(const Ids& a, const Ids& b) {
    Ids all = a;
    all.insert(all.end(), b.begin(), b.end());
    return all;
  }

  std::unique_ptr<Tokenizer> tokenizer_;
  ModelConfig config_;
};

TEST_F(TaskPromptsTest, TheContinuationIsWhatTheWholeHasMore) {
  const EncodedChoice choice = First("Why?", "So");
  EXPECT_EQ(choice.targets, Encode(" So"));
  EXPECT_EQ(choice.ids, Joined({256}, Encode("Why? S")));
}

TEST_F(TaskPromptsTest, SpacesAtTheEndOfTheContextGoOver) {
  const EncodedChoice choice = First("Why?  ", "x");
  EXPECT_EQ(choice.targets, Encode("   x"));
  EXPECT_EQ(choice.ids, Joined({256}, Encode("Why?  "
                                             " ")));
}

TEST_F(TaskPromptsTest, ABosThatIsWrittenOutIsNotAddedAgain) {
  EXPECT_EQ(First("<s>Why?", "x").ids, First("Why?", "x").ids);
}

TEST_F(TaskPromptsTest, AnEmptyContextIsABos) {
  const EncodedChoice choice = First("", "xy");
  EXPECT_EQ(choice.ids, Joined({256}, Encode(" x")));
  EXPECT_EQ(choice.targets, Encode(" xy"));
}

TEST_F(TaskPromptsTest, WhatIsTooLongIsCutOnTheLeft) {
  const EncodedChoice choice = First(std::string(20, 'a') + std::string(20, 'b'), "xy");
  // The last of 32 positions predicts y: 30 of the context, a blank and x.
  EXPECT_EQ(choice.ids, Encode(std::string(10, 'a') + std::string(20, 'b') + " x"));
  EXPECT_EQ(choice.targets, Encode(" xy"));
  EXPECT_STATUS(Load("multiple_choice", R"({"query": "a", "choices": ["x", ")" +
                                            std::string(32, 'y') + R"("], "gold": 0})"),
                kInvalidArgument, kDatasetInvalid, {"asked: question 0: choice 1", "33 tokens"});
}

TEST_F(TaskPromptsTest, SeveralContextsHaveOneContinuation) {
  const auto data =
      Load("winogrande", R"({"context_options": ["it", "he"], "continuation": "ran", "gold": 1})");
  ASSERT_OK(data);
  EXPECT_EQ(data->choices[0][1].ids, Joined({256}, Encode("he ra")));
  EXPECT_EQ(data->choices[0][0].targets, data->choices[0][1].targets);
}

TEST_F(TaskPromptsTest, GenerationsKeepRoom) {
  const auto data = Load("gsm8k", R"({"question": "How many?", "answer": "#### 3"})");
  ASSERT_OK(data);
  EXPECT_EQ(data->new_tokens, 16);
  EXPECT_THAT(data->prompts, ElementsAre(Encode("ow many?\nAnswer:")));
  config_.max_position_embeddings = 4096;
  const auto roomy = Load("gsm8k", R"({"question": "How many?", "answer": "#### 3"})");
  EXPECT_EQ(roomy->new_tokens, 256);
  EXPECT_EQ(roomy->prompts[0], Joined({256}, Encode("Question: How many?\nAnswer:")));
}

TEST_F(TaskPromptsTest, ATokenBeyondTheEmbeddingsIsNamed) {
  config_.vocab_size = 257;
  const char* const questions[] = {R"({"query": "a</s>b", "choices": ["x", "y"], "gold": 0})",
                                   R"({"query": "ab", "choices": ["x", "y</s>"], "gold": 0})"};
  for (const char* question : questions) {
    EXPECT_STATUS(Load("multiple_choice", question), kInvalidArgument, kModelCorrupt,
                  {"asked: question 0: the token '</s>' has the id 257"});
  }
  EXPECT_STATUS(Load("gsm8k", R"({"question": "How</s>?", "answer": "#### 3"})"), kInvalidArgument,
                kModelCorrupt, {"asked: question 0: the token '</s>'"});
}

TEST_F(TaskPromptsTest, ErrorsNameTheTask) {
  TaskSpec spec;
  spec.task = "trivia";
  spec.name = "mine";
  EXPECT_STATUS(CheckTask(spec), kInvalidArgument, kInvalidField, {"mine: ", "'trivia'"});
  spec.task = "piqa";
  spec.path = dir_.File("absent.jsonl");
  EXPECT_STATUS(CheckTask(spec), kNotFound, kDatasetInvalid, {"mine: ", "absent.jsonl"});
  // The first question decides.
  spec.task = "multiple_choice";
  spec.path =
      dir_.Write("q.jsonl", "{\"query\": \"a\", \"choices\": [\"x\", \"y\"], \"gold\": 0}\n{}");
  EXPECT_OK(CheckTask(spec));
  EXPECT_STATUS(LoadTask(spec, *tokenizer_, config_), kInvalidArgument, kDatasetInvalid,
                {"mine: ", "line 2"});
}

}  // namespace
}  // namespace svdllm
