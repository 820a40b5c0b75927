// The batched probe against one forward pass a matrix.
#include "compress/kl_probe.h"

#include <gtest/gtest.h>

#include <cmath>

#include "compress/allocate.h"
#include "compress/dense_pass.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

class KlProbeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::WriteTinyCheckpoint(dir_.File("model"));
    checkpoint_ = std::make_unique<Checkpoint>(*Checkpoint::Open(dir_.File("model")));
    targets_ = LinearLayers(*checkpoint_);
    spec_.keep_ratios = {0.7, 0.4};
    spec_.method = Method::kSvdLlm;
    for (int64_t s = 0; s < 6; ++s) {
      std::vector<int32_t> ids;
      for (int64_t t = 0; t < 17; ++t) ids.push_back(static_cast<int32_t>((7 * s + t * t) % 256));
      calibration_.Append(ids);
    }
  }
  // Logits of a model one of whose linears is replaced.
  std::vector<double> Logits(size_t changed, const Factors* factors) {
    Forward forward(checkpoint_->config(), checkpoint_->arch(), *backend_);
    const Matrix x = *EmbedSequences(*checkpoint_, calibration_, *backend_);
    for (int64_t layer = 0; layer < checkpoint_->config().num_layers; ++layer) {
      Block block = *LoadBlock(*checkpoint_, layer, *backend_);
      if (factors != nullptr && targets_[changed].layer == layer) {
        const Matrix product = *Multiply(*factors, *backend_);
        EXPECT_OK(backend_->Copy(product, block.linear(targets_[changed].id).w));
      }
      EXPECT_OK(forward.RunBlock(block, calibration_.offsets, x));
    }
    const Head head = *LoadHead(*checkpoint_, *backend_);
    const Matrix logits = *backend_->New(x.rows(), head.w.rows(), DType::kF32);
    EXPECT_OK(forward.Logits(head, x, logits));
    std::vector<double> host(static_cast<size_t>(logits.ref().size()));
    EXPECT_OK(backend_->Download(logits, host.data(), DType::kF64));
    return host;
  }
  double MeanKl(const std::vector<double>& p, const std::vector<double>& q) {
    const size_t vocab = static_cast<size_t>(checkpoint_->config().vocab_size);
    double total = 0;
    for (size_t row = 0; row < p.size(); row += vocab) {
      double p_sum = 0, q_sum = 0;
      for (size_t v = 0; v < vocab; ++v) {
        p_sum += std::exp(p[row + v]);
        q_sum += std::exp(q[row + v]);
      }
      for (size_t v = 0; v < vocab; ++v) {
        total += std::exp(p[row + v]) / p_sum *
                 (p[row + v] - q[row + v] - std::log(p_sum) + std::log(q_sum));
      }
    }
    return total / static_cast<double>(calibration_.tokens());
  }

  testing::TempDir dir_;
  std::unique_ptr<Backend> backend_ = NewCpuBackend(1);
  std::unique_ptr<Checkpoint> checkpoint_;
  std::vector<LinearLayer> targets_;
  CompressSpec spec_;
  Sequences calibration_;
  RunHooks hooks_;
  Progress log_{hooks_, 1, 2};
};

TEST_F(KlProbeTest, EqualsOneForwardPassAMatrix) {
  const CompressRun context{spec_, *checkpoint_, targets_, calibration_, *backend_, log_};
  std::vector<std::vector<int64_t>> ranks;
  for (const int64_t rank : {6, 2}) ranks.emplace_back(targets_.size(), rank);
  ranks[1][3] = 0;  // is not probed
  KlProbe probe(context, ranks);
  ASSERT_OK(probe.Start());
  DensePass pass(context);
  ASSERT_OK(pass.Start());
  std::vector<Decomposition> all;
  for (int64_t layer = 0; layer < 2; ++layer) {
    ASSERT_OK(pass.Calibrate(layer));
    const std::vector<size_t> group = DecompositionGroups(context, layer)[0];
    auto pending = StartDecompositions(context, pass.block(), pass.statistics(),
                                       /*values_only=*/false, group);
    ASSERT_OK(pending);
    auto decompositions = pending->Finish();
    ASSERT_OK(decompositions);
    ASSERT_OK(probe.BeginLayer(pass.block()));
    for (size_t i = 0; i < decompositions->size(); ++i) {
      ASSERT_OK(probe.AddMatrix(pass.block(), group[i], (*decompositions)[i]));
      all.push_back(std::move((*decompositions)[i]));
    }
    ASSERT_OK(probe.EndLayer(pass.block()));
  }
  const auto divergences = probe.Divergences();
  ASSERT_OK(divergences);
  const std::vector<double> dense = Logits(0, nullptr);
  for (size_t r = 0; r < ranks.size(); ++r) {
    for (size_t i = 0; i < targets_.size(); ++i) {
      if (ranks[r][i] == 0) {
        EXPECT_EQ((*divergences)[r][i], 0);
        continue;
      }
      const Factors factors = *Truncate(all[i], ranks[r][i], *backend_);
      const double expected = MeanKl(dense, Logits(i, &factors));
      EXPECT_GT(expected, 0) << targets_[i].name;
      EXPECT_NEAR((*divergences)[r][i], expected, 1e-3 * expected + 1e-7) << targets_[i].name;
    }
  }
}

TEST_F(KlProbeTest, AllocatesWithinTheBudget) {
  spec_.allocation = Allocation::kKlProbe;
  spec_.encoding = Encoding::kPivoted;
  const CompressRun context{spec_, *checkpoint_, targets_, calibration_, *backend_, log_};
  const auto ranks = AllocateRanks(context);
  ASSERT_OK(ranks);
  ASSERT_EQ(ranks->size(), 2u);
  for (size_t r = 0; r < 2; ++r) {
    int64_t stored = 0, dense = 0;
    for (size_t i = 0; i < targets_.size(); ++i) {
      stored += StoredNumbers(spec_.encoding, targets_[i].rows, targets_[i].cols, (*ranks)[r][i]);
      dense += targets_[i].rows * targets_[i].cols;
    }
    EXPECT_LE(static_cast<double>(stored), spec_.keep_ratios[r] * static_cast<double>(dense));
    EXPECT_GT(static_cast<double>(stored),
              (spec_.keep_ratios[r] - 0.05) * static_cast<double>(dense));
  }
}

TEST(KlProbeTokensTest, BoundsMemoryAndWhatThereIs) {
  EXPECT_EQ(KlProbe::Tokens(100, 576, 210), 100);
  EXPECT_EQ(KlProbe::Tokens(100000, 576, 210), 512);
  EXPECT_EQ(KlProbe::Tokens(100000, 8192, 560), 128) << "70B: the fewest";
}

}  // namespace
}  // namespace svdllm
