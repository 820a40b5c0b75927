#include "evaluate/choices.h"

#include <gmock/gmock.h>

#include "model/residual_stream.h"
#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

EncodedChoice Choice(std::vector<int32_t> ids, std::vector<int32_t> targets) {
  return {std::move(ids), std::move(targets)};
}

TEST(ChoiceLayout, ComputesWhatIsSharedOnce) {
  ChoiceLayout layout;
  layout.Append({Choice({1, 2, 3}, {9}), Choice({1, 2, 4, 5}, {4, 5, 6}), Choice({1, 2}, {7}),
                 Choice({1, 2, 3}, {9})},
                ModelConfig());
  EXPECT_THAT(layout.sequences.ids, ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(layout.sequences.offsets, ElementsAre(0, 2, 3, 5));
  EXPECT_THAT(layout.sequences.parents, ElementsAre(-1, 0, 0));
  EXPECT_THAT(layout.rows, ElementsAre(2, 1, 3, 4, 1));
  EXPECT_THAT(layout.targets, ElementsAre(9, 4, 5, 6, 7));
  EXPECT_THAT(layout.ends, ElementsAre(1, 4, 5));
  EXPECT_THAT(layout.computed, ElementsAre(0, 1, 2, 0));  // the last is the first again
  layout.Append({Choice({8, 1}, {3}), Choice({7, 1}, {3})}, ModelConfig());
  EXPECT_THAT(layout.sequences.parents, ElementsAre(-1, 0, 0, -1, -1));
  EXPECT_THAT(layout.computed, ElementsAre(0, 1, 2, 0, 3, 4));
  EXPECT_THAT(layout.rows, ElementsAre(2, 1, 3, 4, 1, 6, 8));
}

// Σ progress p of a choice by a pass over it alone.
double Alone(const Checkpoint& checkpoint, const EncodedChoice& choice, Backend& backend) {
  Forward forward(checkpoint.config(), checkpoint.arch(), backend);
  Sequences sequence;
  sequence.Append(choice.ids);
  const Matrix x = *EmbedSequences(checkpoint, sequence, backend);
  for (int64_t layer = 0; layer < checkpoint.config().num_layers; ++layer) {
    EXPECT_OK(forward.RunBlock(*LoadBlock(checkpoint, layer, backend), sequence.offsets, x));
  }
  const auto rows = static_cast<int64_t>(choice.targets.size());
  const Matrix logits = *backend.New(rows, checkpoint.config().vocab_size, DType::kF32);
  EXPECT_OK(
      forward.Logits(*LoadHead(checkpoint, backend), x.ref().Rows(x.rows() - rows, rows), logits));
  return -*backend.CrossEntropy(logits, choice.targets);
}

// Questions of many lengths, several batches of them.
std::string Questions() {
  std::string lines;
  for (int i = 0; i < 60; ++i) {
    const std::string query(static_cast<size_t>(1 + i * 7 % 90), static_cast<char>('a' + i % 26));
    const std::string end(static_cast<size_t>(1 + i % 13), static_cast<char>('A' + i % 26));
    lines += R"({"query": ")" + query + R"(", "choices": ["x", ")" + end + R"(", "xy )" + end +
             R"(", "x"], "gold": 1})" + "\n";
  }
  return lines +
         R"({"context_options": ["it was he", "it was a horse"], "continuation": "that ran.", "gold": 1})";
}

class ScoreChoicesTest : public JobFixture {};

TEST_F(ScoreChoicesTest, SharedPromptsScoreAsOneByOneInEveryFamily) {
  TaskSpec spec;
  spec.task = spec.name = "multiple_choice";
  spec.path = dir_.Write("q.jsonl", Questions());
  int family = 0;
  for (const auto& [name, options] : testing::TinyFamilies()) {
    SCOPED_TRACE(name);
    const std::string dir = dir_.File("family" + std::to_string(family++));
    testing::WriteTinyCheckpoint(dir, options);
    const auto checkpoint = Checkpoint::Open(dir);
    const auto tokenizer = Tokenizer::Load(dir);
    ASSERT_OK(checkpoint);
    ASSERT_OK(tokenizer);
    const auto data = LoadTask(spec, *tokenizer, checkpoint->config());
    ASSERT_OK(data);
    const double work = ChoiceFlops(*checkpoint, *data);
    double percent = 0;
    RunHooks hooks;
    hooks.on_progress = [&](const ProgressEvent& progress) { percent = progress.percent; };
    Progress progress(hooks, work, 2);
    int64_t tokens = 0, one_by_one = 0;
    const auto together = LogLikelihoods(*checkpoint, *data, *backend_, progress, &tokens);
    ASSERT_OK(together);
    ASSERT_EQ(together->size(), data->items.size());
    EXPECT_NEAR(percent, 100, 1e-6);
    for (size_t i = 0; i < together->size(); ++i) {
      for (size_t c = 0; c < data->choices[i].size(); ++c) {
        const EncodedChoice& choice = data->choices[i][c];
        one_by_one += static_cast<int64_t>(choice.ids.size());
        EXPECT_NEAR((*together)[i][c], Alone(*checkpoint, choice, *backend_), 1e-4)
            << i << " " << c;
      }
      // Equal to the last bit: the first of them wins.
      if (data->choices[i].size() == 4) {
        EXPECT_EQ((*together)[i][0], (*together)[i][3]) << i;
      }
    }
    EXPECT_LT(tokens, one_by_one / 2);
  }
}

TEST_F(ScoreChoicesTest, StopsWhereItIsCancelled) {
  const auto checkpoint = Checkpoint::Open(model_);
  const auto tokenizer = Tokenizer::Load(model_);
  TaskSpec spec;
  spec.task = spec.name = "multiple_choice";
  spec.path = dir_.Write("q.jsonl", Questions());
  const auto data = LoadTask(spec, *tokenizer, checkpoint->config());
  ASSERT_OK(data);
  RunHooks hooks;
  int checks = 0;
  hooks.check = [&] { return ++checks == 3 ? absl::CancelledError("enough") : absl::OkStatus(); };
  Progress progress(hooks, 1, 2);
  int64_t tokens = 0;
  EXPECT_STATUS(LogLikelihoods(*checkpoint, *data, *backend_, progress, &tokens), kCancelled, "",
                {"enough"});
}

}  // namespace
}  // namespace svdllm
