// Compression of every family.
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "checkpoint/checkpoint.h"
#include "tests/support/job_fixture.h"

namespace svdllm {
namespace {

class CompressFamiliesTest : public JobFixture {
 protected:
  CompressSpec Default(const std::string& output) {
    CompressSpec spec = Spec(output);
    spec.method = Method::kAnchored;
    spec.encoding = Encoding::kPivoted;
    spec.allocation = Allocation::kKlProbe;
    return spec;
  }
  CompressSpec With(const std::string& output, Method method) {
    CompressSpec spec = Spec(output);
    spec.method = method;
    return spec;
  }
};

TEST_F(CompressFamiliesTest, ArtifactsOpenAndAreAsPlanned) {
  for (const auto& [name, options] : testing::TinyFamilies()) {
    SCOPED_TRACE(name);
    model_ = dir_.File("model-" + name);
    testing::WriteTinyCheckpoint(model_, options);
    CompressSpec dense = With(name + "-dense", Method::kSvdLlm);
    dense.output_format = OutputFormat::kDense;
    for (const CompressSpec& spec :
         {Default(name + "-default"), With(name + "-update", Method::kSvdLlmUpdate), dense}) {
      const auto plan = testing::PlanCompress(spec);
      ASSERT_OK(plan);
      const auto result = Run(spec);
      ASSERT_OK(result);
      const ArtifactResult& artifact = result->artifacts[0];
      const auto checkpoint = Checkpoint::Open(Artifact(spec.job_id.substr(4)));
      ASSERT_OK(checkpoint);
      EXPECT_EQ(checkpoint->parameters(), artifact.parameters);
      EXPECT_EQ(checkpoint->weight_bytes(), artifact.weight_bytes);
      EXPECT_EQ(checkpoint->config().family, options.family);
      const bool factored = spec.output_format == OutputFormat::kFactored;
      EXPECT_EQ(checkpoint->config().is_low_rank(), factored);
      EXPECT_LE(artifact.compressed_parameters,
                factored ? result->target_parameters / 2 : result->target_parameters);
      if (plan->ranks_are_final) {
        EXPECT_EQ(plan->artifacts[0].weight_bytes, artifact.weight_bytes);
      }
      EXPECT_TRUE(std::isfinite(artifact.figures.perplexities[0].perplexity));
    }
  }
}

// Models that tests/reference/make_families.py has trained, where there are any: what a method
// knows more of must help, in every family.
TEST_F(CompressFamiliesTest, BetterMethodsKeepMore) {
  const char* root = std::getenv("SVDLLM_FAMILIES_DIR");
  if (root == nullptr) GTEST_SKIP() << "SVDLLM_FAMILIES_DIR is not set";
  text_ = std::string(root) + "/calibration.txt";
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    const std::string name = entry.path().filename();
    SCOPED_TRACE(name);
    model_ = entry.path();
    std::vector<double> perplexities;
    double before = 0;
    for (CompressSpec spec :
         {With(name + "-svd", Method::kSvd), With(name, Method::kSvdLlm),
          With(name + "-update", Method::kSvdLlmUpdate), Default(name + "-default")}) {
      spec.keep_ratios = {0.7};
      spec.calibration.samples = 32;
      const auto result = Run(spec);
      ASSERT_OK(result);
      before = result->before.perplexities[0].perplexity;
      perplexities.push_back(result->artifacts[0].figures.perplexities[0].perplexity);
    }
    std::printf("%-14s dense %.3f, svd %.3f, svd_llm %.3f, update %.3f, default %.3f\n",
                name.c_str(), before, perplexities[0], perplexities[1], perplexities[2],
                perplexities[3]);
    EXPECT_GT(perplexities[0], perplexities[1]);
    EXPECT_GT(perplexities[1], perplexities[3]);
    EXPECT_GT(perplexities[3], 0.99 * before);
  }
}

}  // namespace
}  // namespace svdllm
