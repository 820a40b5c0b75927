// Whole compressions of the tiny model: perplexity and stored numbers against an independent
// computation in double precision.
#include <cmath>

#include "golden.h"
#include "pipeline/pipeline.h"
#include "tests/support/run_job.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

struct GoldenCase {
  const char* name;
  const char* key;  // of methods.json
  Method method;
  Encoding encoding = Encoding::kPlain;
  Allocation allocation = Allocation::kUniform;
  double anchor_blend = 1;
};

constexpr char kUpdateKey[] =
    "svd_llm_update, target W X', a block's inputs all taken before the block is replaced (the "
    "official code's way)";
constexpr GoldenCase kCases[] = {
    {"svd", "svd", Method::kSvd},
    {"asvd", "asvd", Method::kAsvd},
    {"svd_llm", "svd_llm", Method::kSvdLlm},
    {"svd_llm_update", kUpdateKey, Method::kSvdLlmUpdate},
    {"anchored", "anchored", Method::kAnchored},
    {"svd_llm_pivoted", "svd_llm, pivoted encoding", Method::kSvdLlm, Encoding::kPivoted},
    {"anchored_pivoted", "anchored, pivoted encoding", Method::kAnchored, Encoding::kPivoted},
    {"anchored_pivoted_blend", "anchored with beta = 0.5, pivoted encoding", Method::kAnchored,
     Encoding::kPivoted, Allocation::kUniform, 0.5},
    {"anchored_pivoted_d_rank", "anchored, pivoted, D-Rank allocation per type", Method::kAnchored,
     Encoding::kPivoted, Allocation::kDRank},
    {"anchored_pivoted_relative_tails", "anchored, pivoted, allocation by relative tails",
     Method::kAnchored, Encoding::kPivoted, Allocation::kRelativeTails},
};

// The independent computation is in double precision throughout; at high compression a rounding
// decides more than where the model is nearly whole.
double Tolerance(double keep_ratio) { return keep_ratio >= 0.8 ? 0.005 : 0.02; }

class GoldenCompressTest : public ::testing::TestWithParam<GoldenCase> {
 protected:
  // As methods.json was computed.
  absl::StatusOr<CompressResult> Compress(const GoldenCase& how, std::vector<double> keep_ratios) {
    WriteStories(dir_.File("stories.jsonl"));
    ASSIGN_OR_RETURN(const auto store, NewFileStore({{}, dir_.File("artifacts")}));
    CompressSpec spec;
    spec.job_id = "golden";
    spec.model_dir = spec.model_uri = kTinyModel;
    spec.method = how.method;
    spec.encoding = how.encoding;
    spec.allocation = how.allocation;
    spec.anchor_blend = how.anchor_blend;
    spec.keep_ratios = std::move(keep_ratios);
    const TextSource stories = {dir_.File("stories.jsonl"), "text", Packing::kDocuments};
    spec.calibration.sources = {{stories}};
    spec.calibration.first_document = 300;
    spec.calibration.samples = 256;
    spec.calibration.seq_len = 512;
    spec.evaluate_held_out = false;
    spec.measure.texts = {{"perplexity", stories, /*seq_len=*/512, /*limit=*/200}};
    spec.output_uri = *store->ResolveOutput(dir_.File("artifacts/out"));
    spec.work_dir = dir_.File("work");
    const auto backend = NewCpuBackend();
    return testing::RunCompress(spec, *backend, *store, {});
  }

  testing::TempDir dir_;
};

TEST_P(GoldenCompressTest, PerplexityAndStoredNumbers) {
  SKIP_WITHOUT_GOLDEN();
  const auto result = Compress(GetParam(), {0.9, 0.8, 0.6, 0.4});
  ASSERT_OK(result);

  const nlohmann::json golden = ReadJson(kGolden + "/methods.json")["methods"][GetParam().key];
  ASSERT_TRUE(golden.is_object()) << GetParam().key;
  EXPECT_NEAR(result->before.perplexities[0].perplexity, 5.34104, 5e-4);
  ASSERT_EQ(result->artifacts.size(), 4u);
  for (const ArtifactResult& artifact : result->artifacts) {
    const std::string ratio = nlohmann::json(artifact.keep_ratio).dump();
    const nlohmann::json& expected = golden[ratio];
    std::printf("%s keep %s: perplexity %.4f, golden %.4f\n", GetParam().name, ratio.c_str(),
                artifact.figures.perplexities[0].perplexity, expected["perplexity"].get<double>());
    EXPECT_EQ(artifact.compressed_parameters, expected["stored_numbers"]) << ratio;
    EXPECT_NEAR(artifact.figures.perplexities[0].perplexity / expected["perplexity"].get<double>(),
                1, Tolerance(artifact.keep_ratio))
        << ratio;
    EXPECT_TRUE(Present(dir_.File("artifacts/out/keep-" + ratio + "0/compression_manifest.json")));
    for (const MatrixReport& matrix : artifact.matrices) {
      EXPECT_LT(std::fabs(matrix.rounding_excess), 1e-6) << matrix.name;  // F32 factors
    }
  }
}

class GoldenDefaultTest : public GoldenCompressTest {};

// There is no independent figure for probes; they must be worth their time.
TEST_P(GoldenDefaultTest, BeatsUniformRanks) {
  SKIP_WITHOUT_GOLDEN();
  const auto result = Compress(GetParam(), {0.8, 0.6});
  ASSERT_OK(result);
  const nlohmann::json uniform = ReadJson(kGolden + "/methods.json")["methods"][GetParam().key];
  for (const ArtifactResult& artifact : result->artifacts) {
    const nlohmann::json& expected = uniform[nlohmann::json(artifact.keep_ratio).dump()];
    std::printf("%s keep %.1f: perplexity %.4f, uniform ranks %.4f\n", GetParam().name,
                artifact.keep_ratio, artifact.figures.perplexities[0].perplexity,
                expected["perplexity"].get<double>());
    EXPECT_LT(artifact.figures.perplexities[0].perplexity, expected["perplexity"]);
    EXPECT_LE(artifact.compressed_parameters,
              artifact.keep_ratio * static_cast<double>(result->target_parameters));
  }
}

INSTANTIATE_TEST_SUITE_P(Default, GoldenDefaultTest,
                         ::testing::Values(GoldenCase{"anchored_pivoted_kl_probe",
                                                      "anchored with beta = 0.5, pivoted encoding",
                                                      Method::kAnchored, Encoding::kPivoted,
                                                      Allocation::kKlProbe, 0.5}),
                         [](const auto& info) { return info.param.name; });
INSTANTIATE_TEST_SUITE_P(Methods, GoldenCompressTest, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace svdllm
