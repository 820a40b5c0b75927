// The forward pass, calibration and whitening against figures of an independent computation.
#include <Eigen/Dense>
#include <cmath>
#include <map>

#include "compress/statistics.h"
#include "corpus/windows.h"
#include "evaluate/perplexity.h"
#include "golden.h"
#include "model/forward.h"
#include "model/residual_stream.h"
#include "pipeline/pipeline.h"
#include "tests/support/run_job.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

using MatD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

MatD GoldenMatrix(const SafetensorsFile& file, const std::string& name) {
  const TensorView view = *file.Get(name);
  MatD m(view.shape.size() == 2 ? view.shape[0] : 1, view.shape.back());
  ConvertElements(view.bytes.data(), view.dtype, m.data(), DType::kF64,
                  static_cast<size_t>(m.size()));
  return m;
}

// Integer tensors are not read as weights: the ids come out of the tokenizer, and are compared by
// what depends on every one of them, the Gram matrices and logits.
class GoldenModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_GOLDEN();
    WriteStories(dir_.File("stories.jsonl"));
    checkpoint_ = std::make_unique<Checkpoint>(*Checkpoint::Open(kTinyModel));
    golden_ =
        std::make_unique<SafetensorsFile>(*SafetensorsFile::Open(kGolden + "/golden.safetensors"));
    PerplexitySpec spec;
    spec.text = {dir_.File("stories.jsonl"), "text", Packing::kDocuments};
    spec.seq_len = 512;
    spec.limit = 4;
    sequences_ = (*CutWindows(spec, *Tokenizer::Load(kTinyModel), checkpoint_->config())).windows;
    backend_ = NewCpuBackend();
  }

  testing::TempDir dir_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<SafetensorsFile> golden_;
  Sequences sequences_;
};

TEST_F(GoldenModelTest, Logits) {
  Forward forward(checkpoint_->config(), checkpoint_->arch(), *backend_);
  const Matrix x = *EmbedSequences(*checkpoint_, sequences_, *backend_);
  for (int64_t layer = 0; layer < checkpoint_->config().num_layers; ++layer) {
    const Block block = *LoadBlock(*checkpoint_, layer, *backend_);
    ASSERT_OK(forward.RunBlock(block, sequences_.offsets, x));
  }
  const Head head = *LoadHead(*checkpoint_, *backend_);
  const Matrix logits = *backend_->New(32, checkpoint_->config().vocab_size, DType::kF32);
  for (size_t d = 0; d < 4; ++d) {
    const MatD expected = GoldenMatrix(*golden_, "docs." + std::to_string(d) + ".logits");
    ASSERT_OK(forward.Logits(head, x.ref().Rows(sequences_.offsets[d], 32), logits));
    MatD got(32, expected.cols());
    ASSERT_OK(backend_->Download(logits, got.data(), DType::kF64));
    EXPECT_LT((got - expected).cwiseAbs().maxCoeff(), 1e-4) << "document " << d;
  }
}

TEST_F(GoldenModelTest, GramsAndWhitenedSingularValues) {
  ASSERT_EQ(sequences_.tokens(), 1487);
  Forward forward(checkpoint_->config(), checkpoint_->arch(), *backend_);
  const Matrix x = *EmbedSequences(*checkpoint_, sequences_, *backend_);
  double worst_gram = 0, worst_value = 0;
  for (int64_t layer = 0; layer < checkpoint_->config().num_layers; ++layer) {
    const Block block = *LoadBlock(*checkpoint_, layer, *backend_);
    // As the pipeline gathers them, and, beside it, the input Gram of every site.
    BlockStatistics statistics =
        *BlockStatistics::Create(checkpoint_->config(), checkpoint_->arch(), Statistic::kGram,
                                 /*output_grams=*/true, *backend_);
    std::map<Site, Matrix> grams;
    BlockObserver observer = statistics.Observer(block.precision());
    const auto inner = observer.input;
    observer.input = [&](Site site, MatrixRef input) -> absl::Status {
      if (!grams.count(site)) {
        grams[site] = *backend_->New(input.cols, input.cols, DType::kF64);
      }
      RETURN_IF_ERROR(backend_->AccumulateGram(input, DType::kF32, grams[site]));
      return inner(site, input);
    };
    ASSERT_OK(forward.RunBlock(block, sequences_.offsets, x, observer));
    ASSERT_OK(statistics.Finish("layer", 0.5));
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    for (const auto& [site, gram] : grams) {
      const std::string name = "gram." + prefix + std::string(SiteName(site));
      if (!golden_->Get(name).ok()) continue;
      const MatD expected = GoldenMatrix(*golden_, name);
      ASSERT_OK(backend_->MirrorLower(gram));
      MatD got(expected.rows(), expected.cols());
      ASSERT_OK(backend_->Download(gram, got.data(), DType::kF64));
      worst_gram = std::max(worst_gram, (got - expected).norm() / expected.norm());
    }
    for (const LinearRow& row : checkpoint_->arch().linears) {
      const std::string name = "whitened_sv." + prefix + std::string(row.module);
      if (!golden_->Get(name).ok()) continue;
      const DecomposeItem item{block.linear(row.id).w, statistics.MetricOf(row.id)};
      const auto decomposed = Decompose({&item, 1}, *backend_);
      ASSERT_OK(decomposed);
      const MatD expected = GoldenMatrix(*golden_, name);
      for (int64_t j = 0; j < expected.cols(); ++j) {
        const double value = std::sqrt((*decomposed)[0].spectrum[static_cast<size_t>(j)]);
        worst_value = std::max(worst_value, std::abs(value - expected(0, j)) / expected(0, 0));
      }
    }
  }
  RecordProperty("gram_relative_frobenius", std::to_string(worst_gram));
  std::printf("Grams: relative Frobenius %.2e; whitened singular values: %.2e of the largest\n",
              worst_gram, worst_value);
  EXPECT_GT(worst_gram, 0);
  EXPECT_LT(worst_gram, 2e-6);
  EXPECT_GT(worst_value, 0);
  EXPECT_LT(worst_value, 1e-6);
}

TEST_F(GoldenModelTest, Perplexity) {
  const nlohmann::json golden = ReadJson(kGolden + "/perplexity.json");
  EvaluateSpec spec;
  spec.model_dir = kTinyModel;
  PerplexitySpec task;
  task.name = "perplexity";
  task.text = {dir_.File("stories.jsonl"), "text", Packing::kDocuments};
  task.seq_len = 512;
  task.limit = 200;
  spec.measure.texts = {task};
  const auto store = NewFileStore({{}, dir_.File("artifacts")});
  ASSERT_OK(store);
  const auto result = testing::RunEvaluate(spec, *backend_, **store, {});
  ASSERT_OK(result);
  const PerplexityResult& p = result->model.figures.perplexities[0];
  EXPECT_EQ(p.predicted_tokens, golden["predicted_tokens"]);
  std::printf("perplexity %.6f, golden %.6f\n", p.perplexity, golden["perplexity"].get<double>());
  EXPECT_NEAR(p.perplexity / golden["perplexity"].get<double>(), 1, 1e-4);
}

}  // namespace
}  // namespace svdllm
