#include "evaluate/generation.h"

#include <gmock/gmock.h>

#include "model/decoder.h"
#include "model/residual_stream.h"
#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

class GenerateTextsTest : public JobFixture {
 protected:
  void SetUp() override {
    JobFixture::SetUp();
    checkpoint_ = std::make_unique<Checkpoint>(*Checkpoint::Open(model_));
    tokenizer_ = std::make_unique<Tokenizer>(*Tokenizer::Load(model_));
    row_ = **FindTask("gsm8k");
    data_.task = &row_;
    data_.new_tokens = 12;
    row_.stops.clear();
    for (int i = 0; i < 40; ++i) {
      std::vector<int32_t> prompt = {256, 11, 12, 13};
      for (int t = 0; t < 1 + i * 5 % 23; ++t) prompt.push_back((i * 31 + t * 7) % 250);
      data_.prompts.push_back(prompt);
    }
  }
  // The tokens of a prompt's continuation, every one by a pass over everything so far.
  std::vector<int32_t> Tokens(const std::vector<int32_t>& prompt) {
    Forward forward(checkpoint_->config(), checkpoint_->arch(), *backend_);
    const Head head = *LoadHead(*checkpoint_, *backend_);
    Sequences sequence;
    std::vector<int32_t> ids = prompt;
    while (ids.size() < prompt.size() + static_cast<size_t>(data_.new_tokens)) {
      sequence = {};
      sequence.Append(ids);
      const Matrix x = *EmbedSequences(*checkpoint_, sequence, *backend_);
      for (int64_t layer = 0; layer < checkpoint_->config().num_layers; ++layer) {
        EXPECT_OK(
            forward.RunBlock(*LoadBlock(*checkpoint_, layer, *backend_), sequence.offsets, x));
      }
      const Matrix logits = *backend_->New(1, checkpoint_->config().vocab_size, DType::kF32);
      EXPECT_OK(forward.Logits(head, x.ref().Rows(x.rows() - 1, 1), logits));
      std::vector<float> host(static_cast<size_t>(logits.cols()));
      EXPECT_OK(backend_->Download(logits, host.data(), DType::kF32));
      ids.push_back(GreedyToken(host));
    }
    return {ids.begin() + static_cast<std::ptrdiff_t>(prompt.size()), ids.end()};
  }
  std::vector<std::string> Generate() {
    Progress progress(hooks_, GenerationFlops(*checkpoint_, data_), 2);
    int64_t tokens = 0;
    auto texts = GenerateTexts(*checkpoint_, *tokenizer_, data_, *backend_, progress, &tokens);
    EXPECT_OK(texts);
    return texts.ok() ? *texts : std::vector<std::string>();
  }

  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<Tokenizer> tokenizer_;
  TaskRow row_;
  TaskData data_;
  RunHooks hooks_;
};

TEST_F(GenerateTextsTest, GreedyTextsDoNotDependOnTheirBatch) {
  double percent = 0;
  hooks_.on_progress = [&](const ProgressEvent& progress) { percent = progress.percent; };
  const std::vector<std::string> texts = Generate();
  ASSERT_EQ(texts.size(), data_.prompts.size());
  EXPECT_NEAR(percent, 100, 1e-6);
  for (size_t i = 0; i < texts.size(); i += 3) {
    std::vector<int32_t> tokens = Tokens(data_.prompts[i]);
    const auto end = std::find(tokens.begin(), tokens.end(), 257);  // </s>
    tokens.erase(end, tokens.end());
    EXPECT_EQ(texts[i], tokenizer_->Decode(tokens, true)) << i;
  }
}

TEST_F(GenerateTextsTest, EndsAtTheModelsEndsAndAtStops) {
  const std::vector<int32_t> tokens = Tokens(data_.prompts[5]);
  const std::string whole = Generate()[5];
  ASSERT_GT(whole.size(), 6u);
  // The token at place 4 becomes an end of the text.
  const auto place = std::find(tokens.begin(), tokens.end(), tokens[4]) - tokens.begin();
  ASSERT_OK(WriteFileAtomic(model_ + "/generation_config.json",
                            "{\"eos_token_id\": [1000, " + std::to_string(tokens[4]) + "]}"));
  EXPECT_EQ(Generate()[5],
            tokenizer_->Decode(std::span(tokens).first(static_cast<size_t>(place)), true));
  ASSERT_OK(WriteFileAtomic(model_ + "/generation_config.json", "{}"));

  std::vector<std::string> expected = Generate();
  ASSERT_EQ(expected[5], whole);
  row_.stops = {whole.substr(3, 2), "never written"};
  for (std::string& text : expected) {
    text = text.substr(0, text.find(row_.stops[0]));
  }
  EXPECT_EQ(Generate(), expected);
}

TEST_F(GenerateTextsTest, OnePromptAlone) {
  const std::string text = Generate()[7];
  data_.prompts = {data_.prompts[7]};
  EXPECT_EQ(Generate()[0], text);
}

TEST_F(GenerateTextsTest, StopsWhereItIsCancelled) {
  int checks = 0;
  hooks_.check = [&] { return ++checks == 4 ? absl::CancelledError("enough") : absl::OkStatus(); };
  Progress progress(hooks_, 1, 2);
  int64_t tokens = 0;
  EXPECT_STATUS(GenerateTexts(*checkpoint_, *tokenizer_, data_, *backend_, progress, &tokens),
                kCancelled, "", {"enough"});
}

}  // namespace
}  // namespace svdllm
