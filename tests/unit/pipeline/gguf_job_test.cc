// Jobs on a GGUF file give what jobs on the directory that it was made from do.
#include "checkpoint/checkpoint.h"
#include "tests/support/job_fixture.h"
#include "tests/support/tiny_gguf.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {
namespace {

class GgufJob : public JobFixture {
 protected:
  void SetUp() override {
    JobFixture::SetUp();
    gguf_ = dir_.Write("model.gguf", testing::GgufOf(model_).Make());
  }
  std::string gguf_;
};

TEST_F(GgufJob, TheArtifactIsTheDirectorys) {
  CompressSpec spec = Spec("directory");
  ASSERT_OK(Run(spec));
  spec = Spec("gguf");
  spec.model_dir = spec.model_uri = gguf_;
  ASSERT_OK(testing::PlanCompress(spec));
  ASSERT_OK(Run(spec));
  const auto ours = Checkpoint::Open(Artifact("gguf")),
             source = Checkpoint::Open(Artifact("directory"));
  ASSERT_OK(ours);
  ASSERT_OK(source);
  EXPECT_EQ(ours->config().model_type, "lowrank_llama");
  ASSERT_EQ(ours->TensorNames(), source->TensorNames());
  for (const std::string& name : source->TensorNames()) {
    const auto got = ours->Tensor(name), want = source->Tensor(name);
    ASSERT_EQ(got->shape, want->shape) << name;
    EXPECT_TRUE(std::equal(got->bytes.begin(), got->bytes.end(), want->bytes.begin())) << name;
  }
  const auto tokenizer = Tokenizer::Load(Artifact("gguf"));
  ASSERT_OK(tokenizer);
  EXPECT_EQ(*tokenizer->Encode("Line 1</s>", true),
            *Tokenizer::Load(model_)->Encode("Line 1</s>", true));
}

TEST_F(GgufJob, PerplexityIsTheDirectorys) {
  EvaluateSpec spec;
  spec.job_id = "evaluation";
  spec.model_dir = spec.model_uri = gguf_;
  spec.baseline_dir = spec.baseline_uri = model_;
  spec.measure.texts = {{"perplexity", {text_}, 64, 4}};
  spec.work_dir = dir_.File("work");
  const auto result = testing::RunEvaluate(spec, *backend_, *store_, {});
  ASSERT_OK(result);
  EXPECT_EQ(result->model.figures.perplexities[0].perplexity,
            result->baseline->figures.perplexities[0].perplexity);
  EXPECT_EQ(result->model.parameters, result->baseline->parameters);
}

}  // namespace
}  // namespace svdllm
