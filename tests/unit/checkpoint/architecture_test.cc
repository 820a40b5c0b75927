#include "checkpoint/architecture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace svdllm {
namespace {

TEST(Architecture, KnownFamilies) {
  EXPECT_THAT(KnownFamilies(), ::testing::ElementsAre("llama", "mistral", "opt", "qwen2", "qwen3",
                                                      "gemma2", "gemma3_text", "phi3"));
  EXPECT_EQ(FindArchitecture("bloom"), nullptr);
  EXPECT_EQ(FindArchitecture(""), nullptr);
  EXPECT_EQ(FindArchitecture("LLAMA"), nullptr);
}

TEST(Architecture, EveryRowIsComplete) {
  for (const std::string& family : KnownFamilies()) {
    const Architecture* arch = FindArchitecture(family);
    ASSERT_NE(arch, nullptr) << family;
    std::set<LinearId> ids;
    std::set<Site> sites;
    for (const LinearRow& row : arch->linears) {
      ids.insert(row.id);
      sites.insert(row.input);
      EXPECT_FALSE(row.module.empty());
    }
    EXPECT_EQ(ids.size(), arch->linears.size()) << family;
    EXPECT_EQ(sites.size(), static_cast<size_t>(kNumSites)) << family;
  }
}

TEST(Architecture, ShapesWithGroupedQueries) {
  ModelConfig config;
  config.hidden_size = 576;
  config.intermediate_size = 1536;
  config.num_heads = 9;
  config.num_kv_heads = 3;
  config.head_dim = 64;
  const auto expect = [&config](LinearId id, int64_t rows, int64_t cols) {
    EXPECT_EQ(ShapeOf(config, id).rows, rows) << static_cast<int>(id);
    EXPECT_EQ(ShapeOf(config, id).cols, cols) << static_cast<int>(id);
  };
  expect(LinearId::kQ, 576, 576);
  expect(LinearId::kK, 192, 576);
  expect(LinearId::kV, 192, 576);
  expect(LinearId::kO, 576, 576);
  expect(LinearId::kGate, 1536, 576);
  expect(LinearId::kUp, 1536, 576);
  expect(LinearId::kDown, 576, 1536);
  config.head_dim = 32;  // heads narrower than the residual stream
  expect(LinearId::kQ, 288, 576);
  expect(LinearId::kO, 576, 288);
  expect(LinearId::kK, 96, 576);
}

TEST(Architecture, BiasesAndPaths) {
  ModelConfig config;
  EXPECT_FALSE(HasBias(config, LinearId::kQ));
  config.attention_bias = true;
  EXPECT_TRUE(HasBias(config, LinearId::kV));
  EXPECT_FALSE(HasBias(config, LinearId::kO));
  config.output_bias = true;
  EXPECT_TRUE(HasBias(config, LinearId::kO));
  EXPECT_FALSE(HasBias(config, LinearId::kDown));
  config.mlp_bias = true;
  EXPECT_TRUE(HasBias(config, LinearId::kGate));
  const Architecture& llama = *FindArchitecture("llama");
  EXPECT_EQ(ModulePath(llama, 3, LinearId::kQ), "model.layers.3.self_attn.q_proj");
  EXPECT_EQ(ModulePath(llama, 10, LinearId::kDown), "model.layers.10.mlp.down_proj");
  EXPECT_EQ(SiteName(Site::kAttnIn), "attn_in");
  EXPECT_EQ(SiteName(Site::kDownIn), "down_in");
}

}  // namespace
}  // namespace svdllm
