// Whole compressions of the tiny model: perplexity and stored numbers against an independent
// computation in double precision.
#include <cmath>

#include "golden.h"
#include "pipeline/pipeline.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

class GoldenCompressTest : public ::testing::TestWithParam<std::pair<Method, const char*>> {};

TEST_P(GoldenCompressTest, PerplexityAndStoredNumbers) {
  SKIP_WITHOUT_GOLDEN();
  testing::TempDir dir;
  WriteStories(dir.File("stories.jsonl"));
  auto store = NewFileStore({{}, dir.File("artifacts")});
  ASSERT_OK(store);
  CompressSpec spec;
  spec.job_id = "golden";
  spec.model_dir = spec.model_uri = kTinyModel;
  spec.method = GetParam().first;
  spec.keep_ratios = {0.9, 0.8, 0.6};
  spec.calibration.text = {dir.File("stories.jsonl"), "text", Packing::kDocuments};
  spec.calibration.first_document = 300;
  spec.calibration.samples = 256;
  spec.calibration.seq_len = 512;
  spec.evaluation.text = spec.calibration.text;
  spec.evaluation.seq_len = 512;
  spec.evaluation.limit = 200;
  spec.output_uri = *(*store)->ResolveOutput(dir.File("artifacts/out"));
  spec.work_dir = dir.File("work");
  const auto backend = NewCpuBackend();
  const auto result = RunCompress(spec, *backend, **store, {});
  ASSERT_OK(result);

  const nlohmann::json golden = ReadJson(kGolden + "/methods.json")["methods"][GetParam().second];
  ASSERT_TRUE(golden.is_object()) << GetParam().second;
  EXPECT_NEAR(result->perplexities[0].perplexity, 5.34104, 5e-4);
  ASSERT_EQ(result->artifacts.size(), 3u);
  for (const ArtifactResult& artifact : result->artifacts) {
    const std::string ratio = nlohmann::json(artifact.keep_ratio).dump();
    const nlohmann::json& expected = golden[ratio];
    std::printf("%s keep %s: perplexity %.4f, golden %.4f\n", MethodName(spec.method).c_str(),
                ratio.c_str(), artifact.perplexities[0].perplexity,
                expected["perplexity"].get<double>());
    EXPECT_EQ(artifact.compressed_parameters, expected["stored_numbers"]) << ratio;
    EXPECT_NEAR(artifact.perplexities[0].perplexity / expected["perplexity"].get<double>(), 1,
                0.005)
        << ratio;
    EXPECT_TRUE(Present(dir.File("artifacts/out/keep-" + ratio + "0/compression_manifest.json")));
    for (const MatrixReport& matrix : artifact.matrices) {
      EXPECT_LT(std::fabs(matrix.rounding_excess), 1e-6) << matrix.name;  // F32 factors
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Methods, GoldenCompressTest,
    ::testing::Values(
        std::pair(Method::kSvd, "svd"), std::pair(Method::kAsvd, "asvd"),
        std::pair(Method::kSvdLlm, "svd_llm"),
        std::pair(Method::kSvdLlmUpdate,
                  "svd_llm_update, target W X', a block's inputs all taken before the block "
                  "is replaced (the official code's way)")),
    [](const auto& info) { return MethodName(info.param.first); });

}  // namespace
}  // namespace svdllm
