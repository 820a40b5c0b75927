#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "checkpoint/parse_config.h"
#include "tests/support/status_matchers.h"

namespace svdllm {
namespace {

using nlohmann::json;

std::string Config(const std::string& low_rank_changes = "{}",
                   const std::string& model_type = "lowrank_llama") {
  json config = json::parse(R"({"model_type": "", "vocab_size": 100, "hidden_size": 64,
      "intermediate_size": 172, "num_hidden_layers": 12, "num_attention_heads": 8,
      "num_key_value_heads": 4,
      "low_rank_config": {"format_version": 1, "method": "svd_llm", "keep_ratio": 0.8,
        "encoding": "plain",
        "modules": {"model.layers.0.self_attn.q_proj": {"rank": 25},
                    "model.layers.11.mlp.down_proj": {"rank": 37}}}})");
  config["model_type"] = model_type;
  config["low_rank_config"].merge_patch(json::parse(low_rank_changes));
  return config.dump();
}

TEST(LowRankConfig, ModulesAndRanks) {
  const auto config = ParseModelConfig(Config());
  ASSERT_OK(config);
  EXPECT_EQ(config->model_type, "lowrank_llama");
  EXPECT_EQ(config->family, "llama");
  EXPECT_TRUE(config->is_low_rank());
  ASSERT_EQ(config->low_rank.size(), 2u);
  EXPECT_EQ(config->low_rank[0].name, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(config->low_rank[0].rank, 25);
  EXPECT_EQ(config->low_rank[1].name, "model.layers.11.mlp.down_proj");
  EXPECT_EQ(config->low_rank[1].rank, 37);
}

TEST(LowRankConfig, Encodings) {
  EXPECT_FALSE(ParseModelConfig(Config())->pivoted);
  const auto config = ParseModelConfig(Config(R"({"encoding": "pivoted"})"));
  ASSERT_OK(config);
  EXPECT_TRUE(config->pivoted);
  EXPECT_EQ(config->low_rank.size(), 2u);
}

// Every module may have stayed dense.
TEST(LowRankConfig, NoModules) {
  json config = json::parse(Config());
  config["low_rank_config"]["modules"] = json::object();
  const auto parsed = ParseModelConfig(config.dump());
  ASSERT_OK(parsed);
  EXPECT_TRUE(parsed->is_low_rank());
  EXPECT_TRUE(parsed->low_rank.empty());
}

TEST(LowRankConfig, RefusesWhatCannotBeLoaded) {
  const auto modules = [](const std::string& text) {
    return Config(R"({"modules": )" + text + "}");
  };
  const auto refuse = [](const std::string& text, std::string_view expected) {
    EXPECT_STATUS(ParseModelConfig(text), kInvalidArgument, kModelCorrupt, {expected});
  };
  refuse(Config("{}", "llama"), "low_rank_config: given, but model_type is llama");
  refuse(modules(R"({"model.layers.12.self_attn.q_proj": {"rank": 1}})"),
         "model.layers.12.self_attn.q_proj: no such linear layer");
  refuse(modules(R"({"model.layers.00.self_attn.q_proj": {"rank": 1}})"), "model.layers.00");
  refuse(modules(R"({"lm_head": {"rank": 1}})"), "modules.lm_head");
  refuse(modules(R"({"model.layers.1.mlp.up_proj": {"rank": 0}})"), "up_proj.rank: 0");
  refuse(modules(R"({"model.layers.1.mlp.up_proj": {"rank": 65}})"), "up_proj.rank: 65");
  // Sized by the key heads, not by the query heads.
  refuse(modules(R"({"model.layers.1.self_attn.k_proj": {"rank": 33}})"), "k_proj.rank: 33");
  EXPECT_OK(ParseModelConfig(modules(R"({"model.layers.1.self_attn.k_proj": {"rank": 32}})")));
  refuse(modules(R"({"model.layers.1.mlp.up_proj": 5})"), "up_proj: 5 is not an object");
  refuse(modules(R"({"model.layers.1.mlp.up_proj": {}})"), "up_proj.rank: missing");
  refuse(modules("null"), "low_rank_config.modules");
  refuse(modules("[1]"), "low_rank_config.modules");
  refuse(Config(R"({"format_version": null})"), "low_rank_config.format_version: missing");
  refuse(Config(R"({"encoding": null})"), "low_rank_config.encoding: missing");

  EXPECT_STATUS(ParseModelConfig(Config(R"({"format_version": 2})")), kUnimplemented,
                kUnsupportedArchitecture, {"low_rank_config.format_version: 2"});
  EXPECT_STATUS(ParseModelConfig(Config(R"({"encoding": "folded"})")), kUnimplemented,
                kUnsupportedArchitecture, {"low_rank_config.encoding: folded"});

  json config = json::parse(Config());
  config.erase("low_rank_config");
  refuse(config.dump(), "low_rank_config: missing");
  config["low_rank_config"] = "x";
  refuse(config.dump(), "low_rank_config: \"x\" is not an object");
}

}  // namespace
}  // namespace svdllm
