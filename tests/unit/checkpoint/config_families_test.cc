// What each family's configuration has beside what all have, in both spellings.
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "checkpoint/parse_config.h"
#include "tests/support/status_matchers.h"

namespace svdllm {
namespace {

using nlohmann::json;

// The least that a family's file says, with changes merged in; a null stays a null.
std::string Config(const std::string& family, const std::string& changes = "{}") {
  json config = json::parse(R"({"vocab_size": 100, "hidden_size": 64, "intermediate_size": 172,
      "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4})");
  config["model_type"] = family;
  if (family == "opt") {
    config.erase("num_key_value_heads");
    config.erase("intermediate_size");
    config["ffn_dim"] = 172;
  }
  config.update(json::parse(changes));
  return config.dump();
}

ModelConfig Parsed(const std::string& family, const std::string& changes = "{}") {
  const auto config = ParseModelConfig(Config(family, changes));
  EXPECT_OK(config);
  return config.ok() ? *config : ModelConfig();
}

using Layers = std::vector<bool>;

TEST(Mistral, WindowOnEveryLayer) {
  const ModelConfig absent = Parsed("mistral");
  EXPECT_EQ(absent.sliding_window, 4096);
  EXPECT_EQ(absent.sliding_layers, Layers(6, true));
  EXPECT_EQ(absent.max_position_embeddings, 131072);
  EXPECT_EQ(absent.Window(5), 4096);
  EXPECT_EQ(Parsed("mistral", R"({"sliding_window": null})").Window(0), 0);
  EXPECT_EQ(Parsed("mistral", R"({"sliding_window": 7})").Window(3), 7);
  EXPECT_EQ(Parsed("mistral", R"({"head_dim": 24})").head_dim, 24);
  EXPECT_EQ(Parsed("mistral", R"({"num_key_value_heads": null})").num_kv_heads, 8);
  json config = json::parse(Config("mistral"));
  config.erase("num_key_value_heads");
  EXPECT_EQ(ParseModelConfig(config.dump())->num_kv_heads, 8);
  EXPECT_FALSE(absent.attention_bias || absent.output_bias || absent.mlp_bias);
  EXPECT_STATUS(ParseModelConfig(Config("mistral", R"({"layer_types": ["full_attention",
      "full_attention", "full_attention", "full_attention", "full_attention", "full_attention"]})")),
                kUnimplemented, kUnsupportedArchitecture,
                {"layer_types: \"full_attention\"", "mistral models with a sliding window"});
}

TEST(Opt, Variants) {
  const ModelConfig usual = Parsed("opt");
  EXPECT_EQ(usual.intermediate_size, 172);
  EXPECT_EQ(usual.embedding_size, 64);
  EXPECT_EQ(usual.norm_eps, 1e-5);
  EXPECT_EQ(usual.activation, Activation::kRelu);
  EXPECT_EQ(usual.rope.dim, 0);
  EXPECT_TRUE(usual.attention_bias && usual.output_bias && usual.mlp_bias);
  EXPECT_TRUE(usual.tie_word_embeddings);
  EXPECT_TRUE(usual.final_norm);
  EXPECT_FALSE(usual.norms_behind);
  const ModelConfig behind =
      Parsed("opt", R"({"do_layer_norm_before": false, "word_embed_proj_dim": 40,
                        "activation_function": "gelu"})");
  EXPECT_EQ(behind.embedding_size, 40);
  EXPECT_TRUE(behind.norms_behind);
  EXPECT_FALSE(behind.final_norm);
  EXPECT_EQ(behind.activation, Activation::kGelu);
  EXPECT_FALSE(Parsed("opt", R"({"_remove_final_layer_norm": true})").final_norm);
  for (const char* key : {"enable_bias", "layer_norm_elementwise_affine"}) {
    EXPECT_STATUS(ParseModelConfig(Config("opt", std::string("{\"") + key + "\": false}")),
                  kUnimplemented, kUnsupportedArchitecture, {key});
  }
  EXPECT_STATUS(ParseModelConfig(Config("opt", R"({"activation_function": "tanh"})")),
                kUnimplemented, kUnsupportedArchitecture, {"activation_function: tanh"});
  EXPECT_STATUS(ParseModelConfig(Config("opt", R"({"ffn_dim": null})")), kInvalidArgument,
                kModelCorrupt, {"ffn_dim: missing"});
}

TEST(Qwen2, BiasesAndUpperWindows) {
  const ModelConfig usual = Parsed("qwen2", R"({"sliding_window": 32768})");
  EXPECT_TRUE(usual.attention_bias);
  EXPECT_FALSE(usual.output_bias || usual.mlp_bias);
  EXPECT_TRUE(usual.sliding_layers.empty());  // use_sliding_window is not set
  const ModelConfig windows = Parsed(
      "qwen2", R"({"use_sliding_window": true, "sliding_window": 16, "max_window_layers": 4})");
  EXPECT_EQ(windows.sliding_layers, (Layers{false, false, false, false, true, true}));
  EXPECT_EQ(windows.Window(4), 16);
  EXPECT_EQ(windows.Window(3), 0);
  EXPECT_EQ(Parsed("qwen2", R"({"use_sliding_window": true, "max_window_layers": 0})").Window(0),
            4096);
  EXPECT_EQ(Parsed("qwen2", R"({"use_sliding_window": true})").Window(5), 0);  // 28 and above
  const ModelConfig typed = Parsed("qwen2", R"({"use_sliding_window": true, "sliding_window": 16,
      "layer_types": ["sliding_attention", "full_attention", "full_attention", "full_attention",
                      "full_attention", "full_attention"]})");
  EXPECT_EQ(typed.sliding_layers, (Layers{true, false, false, false, false, false}));
  EXPECT_STATUS(
      ParseModelConfig(Config("qwen2", R"({"layer_types": ["sliding_attention", "full_attention",
          "full_attention", "full_attention", "full_attention", "full_attention"]})")),
      kInvalidArgument, kModelCorrupt, {"sliding_window: missing"});
  EXPECT_STATUS(ParseModelConfig(Config("qwen2", R"({"layer_types": ["full_attention"]})")),
                kInvalidArgument, kModelCorrupt, {"layer_types", "list of 6"});
}

TEST(Qwen3, HeadsAndBiases) {
  EXPECT_EQ(Parsed("qwen3").head_dim, 128);
  EXPECT_EQ(Parsed("qwen3", R"({"head_dim": 32})").head_dim, 32);
  EXPECT_FALSE(Parsed("qwen3").attention_bias);
  const ModelConfig biased = Parsed("qwen3", R"({"attention_bias": true})");
  EXPECT_TRUE(biased.attention_bias && biased.output_bias);
  EXPECT_EQ(Parsed("qwen3", R"({"rope_parameters": {"rope_type": "default", "rope_theta": 5e6}})")
                .rope.theta,
            5e6);
}

TEST(Gemma2, CapsWindowsAndScales) {
  const ModelConfig usual = Parsed("gemma2");
  EXPECT_EQ(usual.head_dim, 256);
  EXPECT_EQ(usual.max_position_embeddings, 8192);
  EXPECT_EQ(usual.activation, Activation::kGeluTanh);
  EXPECT_TRUE(usual.tie_word_embeddings);
  EXPECT_EQ(usual.embedding_scale, 8.0);
  EXPECT_EQ(usual.attention_scale, 1.0 / 16);
  EXPECT_EQ(usual.attention_softcap, 50);
  EXPECT_EQ(usual.logit_softcap, 30);
  EXPECT_EQ(usual.sliding_layers, (Layers{true, false, true, false, true, false}));
  EXPECT_EQ(usual.Window(0), 4096);
  const ModelConfig own = Parsed("gemma2", R"({"attn_logit_softcapping": null,
      "final_logit_softcapping": 12.5, "query_pre_attn_scalar": 144, "sliding_window": 9,
      "hidden_act": "relu", "hidden_activation": "silu"})");
  EXPECT_EQ(own.attention_softcap, 0);
  EXPECT_EQ(own.logit_softcap, 12.5);
  EXPECT_NEAR(own.attention_scale, 1.0 / 12, 1e-15);
  EXPECT_EQ(own.Window(2), 9);
  EXPECT_EQ(own.activation, Activation::kSilu);
  EXPECT_STATUS(ParseModelConfig(Config("gemma2", R"({"sliding_window": null})")), kInvalidArgument,
                kModelCorrupt, {"sliding_window: missing"});
  EXPECT_STATUS(ParseModelConfig(Config("gemma2", R"({"use_bidirectional_attention": true})")),
                kUnimplemented, kUnsupportedArchitecture, {"use_bidirectional_attention"});
  EXPECT_STATUS(ParseModelConfig(Config("gemma2", R"({"attn_logit_softcapping": -1})")),
                kInvalidArgument, kModelCorrupt, {"attn_logit_softcapping: -1"});
}

TEST(Gemma3, TwoKindsOfPositions) {
  const ModelConfig usual = Parsed("gemma3_text");
  EXPECT_EQ(usual.rope.theta, 1e6);
  ASSERT_TRUE(usual.local_rope.has_value());
  EXPECT_EQ(usual.local_rope->theta, 1e4);
  EXPECT_EQ(usual.local_rope->dim, 256);
  EXPECT_EQ(usual.attention_softcap, 0);
  EXPECT_EQ(usual.logit_softcap, 0);
  EXPECT_EQ(usual.sliding_layers, (Layers{true, true, true, true, true, false}));
  for (const char* text :
       {R"({"rope_theta": 2e5, "rope_local_base_freq": 3e3, "sliding_window_pattern": 2,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}})",
        R"({"rope_parameters": {
              "full_attention": {"factor": 8.0, "rope_type": "linear", "rope_theta": 2e5},
              "sliding_attention": {"rope_type": "default", "rope_theta": 3e3}},
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention",
                            "full_attention", "sliding_attention", "full_attention"]})"}) {
    const ModelConfig config = Parsed("gemma3_text", text);
    EXPECT_EQ(config.rope.kind, RopeKind::kLinear) << text;
    EXPECT_EQ(config.rope.factor, 8.0);
    EXPECT_EQ(config.rope.theta, 2e5);
    EXPECT_EQ(config.local_rope->kind, RopeKind::kDefault);
    EXPECT_EQ(config.local_rope->theta, 3e3);
    EXPECT_EQ(config.sliding_layers, (Layers{true, false, true, false, true, false}));
  }
  EXPECT_STATUS(
      ParseModelConfig(Config("gemma3_text", R"({"rope_parameters": {"rope_theta": 1}})")),
      kUnimplemented, kUnsupportedArchitecture, {"rope_parameters", "full_attention"});
  EXPECT_STATUS(ParseModelConfig(Config("gemma3_text", R"({"attn_logit_softcapping": 5})")),
                kUnimplemented, kUnsupportedArchitecture, {"attn_logit_softcapping: 5"});
}

TEST(Phi3, LongRopeAndPartialRotary) {
  const ModelConfig usual = Parsed("phi3");
  EXPECT_EQ(usual.norm_eps, 1e-5);
  EXPECT_EQ(usual.max_position_embeddings, 4096);
  EXPECT_TRUE(usual.sliding_layers.empty());
  EXPECT_EQ(usual.rope.dim, 8);
  EXPECT_EQ(Parsed("phi3", R"({"sliding_window": 2047})").Window(5), 2047);
  for (const char* type : {"longrope", "su", "yarn"}) {
    const ModelConfig config = Parsed(
        "phi3", R"({"max_position_embeddings": 131072, "original_max_position_embeddings": 8192,
            "partial_rotary_factor": 0.75, "rope_scaling": {"type": ")" +
                    std::string(type) + R"(", "short_factor": [1, 2, 3],
                     "long_factor": [4, 5, 6.5]}})");
    EXPECT_EQ(config.rope.kind, RopeKind::kLongRope);
    EXPECT_EQ(config.rope.dim, 6);
    EXPECT_EQ(config.rope.original_max_position_embeddings, 8192);
    EXPECT_EQ(config.rope.short_factor, (std::vector<double>{1, 2, 3}));
    EXPECT_EQ(config.rope.long_factor, (std::vector<double>{4, 5, 6.5}));
    EXPECT_NEAR(config.rope.attention_factor, std::sqrt(1 + std::log(16.0) / std::log(8192.0)),
                1e-12);
  }
  const ModelConfig inside = Parsed("phi3", R"({"rope_parameters": {"rope_type": "longrope",
      "rope_theta": 2e4, "partial_rotary_factor": 0.5, "short_factor": [1, 2],
      "long_factor": [3, 4], "original_max_position_embeddings": 77, "factor": 0.5}})");
  EXPECT_EQ(inside.rope.dim, 4);
  EXPECT_EQ(inside.rope.theta, 2e4);
  EXPECT_EQ(inside.rope.original_max_position_embeddings, 4096);  // what stands outside, or 4096
  EXPECT_EQ(inside.rope.attention_factor, 1.0);
  EXPECT_STATUS(ParseModelConfig(Config("phi3", R"({"partial_rotary_factor": 0.4})")),
                kInvalidArgument, kModelCorrupt, {"partial_rotary_factor: 0.4 of head_dim 8"});
  EXPECT_STATUS(ParseModelConfig(Config("phi3", R"({"partial_rotary_factor": 1.5})")),
                kInvalidArgument, kModelCorrupt, {"partial_rotary_factor: 1.5"});
}

TEST(Families, ArtifactsOfFusedModulesNameTheirParts) {
  const char kModules[] = R"({"low_rank_config": {"format_version": 1, "encoding": "plain",
      "modules": {"model.layers.2.self_attn.qkv_proj.k_proj": {"rank": 9},
                  "model.layers.0.mlp.gate_up_proj.up_proj": {"rank": 64}}}})";
  EXPECT_EQ(Parsed("lowrank_phi3", kModules).low_rank.size(), 2u);
  EXPECT_STATUS(ParseModelConfig(Config("lowrank_phi3", R"({"low_rank_config": {"format_version": 1,
          "encoding": "plain", "modules": {"model.layers.2.self_attn.qkv_proj": {"rank": 9}}}})")),
                kInvalidArgument, kModelCorrupt, {"self_attn.qkv_proj: no such linear layer"});
}

}  // namespace
}  // namespace svdllm
