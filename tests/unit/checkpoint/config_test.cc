#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "checkpoint/parse_config.h"
#include "tests/support/source_dir.h"
#include "tests/support/status_matchers.h"

namespace svdllm {
namespace {

using nlohmann::json;

// Our minimum with changes merged in; a null removes the key.
std::string Config(const std::string& changes = "{}") {
  json config = json::parse(R"({"model_type": "llama", "vocab_size": 100, "hidden_size": 64,
      "intermediate_size": 172, "num_hidden_layers": 3, "num_attention_heads": 8})");
  config.merge_patch(json::parse(changes));
  return config.dump();
}

TEST(ParseModelConfig, DefaultsOfTheFamily) {
  const auto config = ParseModelConfig(Config());
  ASSERT_OK(config);
  EXPECT_EQ(config->model_type, "llama");
  EXPECT_EQ(config->family, "llama");
  EXPECT_EQ(config->vocab_size, 100);
  EXPECT_EQ(config->hidden_size, 64);
  EXPECT_EQ(config->intermediate_size, 172);
  EXPECT_EQ(config->num_layers, 3);
  EXPECT_EQ(config->num_heads, 8);
  EXPECT_EQ(config->num_kv_heads, 8);
  EXPECT_EQ(config->head_dim, 8);
  EXPECT_EQ(config->max_position_embeddings, 2048);
  EXPECT_EQ(config->norm_eps, 1e-6);
  EXPECT_EQ(config->activation, Activation::kSilu);
  EXPECT_FALSE(config->attention_bias);
  EXPECT_FALSE(config->mlp_bias);
  EXPECT_FALSE(config->tie_word_embeddings);
  EXPECT_EQ(config->dtype, DType::kF32);
  EXPECT_EQ(config->rope.kind, RopeKind::kDefault);
  EXPECT_EQ(config->rope.theta, 10000.0);
  EXPECT_FALSE(config->is_low_rank());
}

TEST(ParseModelConfig, EveryKeyIsRead) {
  const auto config = ParseModelConfig(Config(R"({"num_key_value_heads": 2, "head_dim": 10,
      "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "hidden_act": "swish",
      "attention_bias": true, "mlp_bias": true, "tie_word_embeddings": true,
      "rope_theta": 500000, "torch_dtype": "bfloat16", "pretraining_tp": 2,
      "some_future_key": {"harmless": [1, 2, 3]}})"));
  ASSERT_OK(config);
  EXPECT_EQ(config->num_kv_heads, 2);
  EXPECT_EQ(config->head_dim, 10);
  EXPECT_EQ(config->max_position_embeddings, 4096);
  EXPECT_EQ(config->norm_eps, 1e-5);
  EXPECT_EQ(config->activation, Activation::kSilu);
  EXPECT_TRUE(config->attention_bias);
  EXPECT_TRUE(config->mlp_bias);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_EQ(config->rope.theta, 500000.0);
  EXPECT_EQ(config->dtype, DType::kBF16);
}

TEST(ParseModelConfig, NullsAreAbsent) {
  json config = json::parse(Config());
  for (const char* key : {"num_key_value_heads", "head_dim", "rope_scaling", "sliding_window",
                          "quantization_config", "low_rank_config"}) {
    config[key] = nullptr;
  }
  EXPECT_OK(ParseModelConfig(config.dump()));
}

TEST(ParseModelConfig, DtypeNames) {
  const std::pair<const char*, DType> cases[] = {
      {R"({"torch_dtype": "float32"})", DType::kF32},
      {R"({"torch_dtype": "torch.float16"})", DType::kF16},
      {R"({"dtype": "bfloat16"})", DType::kBF16},
      {R"({"dtype": "float16", "torch_dtype": "float32"})", DType::kF16},
  };
  for (const auto& [changes, dtype] : cases) {
    const auto config = ParseModelConfig(Config(changes));
    ASSERT_OK(config);
    EXPECT_EQ(config->dtype, dtype) << changes;
  }
}

TEST(ParseModelConfig, RopeKinds) {
  const auto rope = [](const std::string& changes) {
    const auto config = ParseModelConfig(Config(changes));
    EXPECT_OK(config);
    return config.ok() ? config->rope : RopeConfig();
  };
  RopeConfig r = rope(R"({"rope_scaling": {"type": "linear", "factor": 4}})");
  EXPECT_EQ(r.kind, RopeKind::kLinear);
  EXPECT_EQ(r.factor, 4.0);

  r = rope(R"({"rope_theta": 5e5, "rope_scaling": {"rope_type": "dynamic", "type": "dynamic",
               "factor": 2.5, "original_max_position_embeddings": 512},
               "max_position_embeddings": 512})");
  EXPECT_EQ(r.kind, RopeKind::kDynamic);
  EXPECT_EQ(r.factor, 2.5);
  EXPECT_EQ(r.theta, 5e5);
  EXPECT_EQ(r.original_max_position_embeddings, 512);

  const std::string llama3 = R"("rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
      "high_freq_factor": 4.0, "original_max_position_embeddings": 8192)";
  for (const std::string& text :
       {"{\"rope_theta\": 5e5, \"rope_scaling\": {" + llama3 + "}}",
        "{\"rope_parameters\": {\"rope_theta\": 5e5, " + llama3 + "}}",
        "{\"rope_theta\": 5e5, \"rope_parameters\": {\"rope_theta\": 5e5, " + llama3 + "}}"}) {
    r = rope(text);
    EXPECT_EQ(r.kind, RopeKind::kLlama3) << text;
    EXPECT_EQ(r.theta, 5e5) << text;
    EXPECT_EQ(r.factor, 8.0);
    EXPECT_EQ(r.low_freq_factor, 1.0);
    EXPECT_EQ(r.high_freq_factor, 4.0);
    EXPECT_EQ(r.original_max_position_embeddings, 8192);
  }

  r = rope(R"({"rope_parameters": {"rope_theta": 123.0}})");
  EXPECT_EQ(r.kind, RopeKind::kDefault);
  EXPECT_EQ(r.theta, 123.0);
  EXPECT_EQ(rope(R"({"rope_scaling": {"rope_type": "default"}})").kind, RopeKind::kDefault);
}

struct Case {
  const char* name;
  std::string text;
  std::initializer_list<std::string_view> expected;
};

class Unsupported : public ::testing::TestWithParam<Case> {};
TEST_P(Unsupported, IsUnimplementedAndNamed) {
  const auto config = ParseModelConfig(GetParam().text);
  EXPECT_STATUS(config, kUnimplemented, kUnsupportedArchitecture, GetParam().expected);
  EXPECT_STATUS(
      config, kUnimplemented, kUnsupportedArchitecture,
      {"supported families: llama, mistral, opt, qwen2, qwen3, gemma2, gemma3_text, phi3"});
}

const Case kUnsupportedCases[] = {
    {"Family", Config(R"({"model_type": "gpt_neox"})"), {"model_type: gpt_neox"}},
    {"FamilyBehindOurPrefix", Config(R"({"model_type": "lowrank_mpt"})"), {"lowrank_mpt"}},
    {"EmptyFamily", Config(R"({"model_type": ""})"), {"model_type"}},
    {"Activation", Config(R"({"hidden_act": "quick_gelu"})"), {"hidden_act: quick_gelu"}},
    {"Quantised", Config(R"({"quantization_config": {"bits": 4}})"), {"quantization_config"}},
    {"SlidingWindow", Config(R"({"sliding_window": 4096})"), {"sliding_window: 4096"}},
    {"UseSlidingWindow", Config(R"({"use_sliding_window": true})"), {"use_sliding_window"}},
    {"LayerTypes",
     Config(R"({"layer_types": ["full_attention", "sliding_attention", "full_attention"]})"),
     {"layer_types", "sliding_attention"}},
    {"PartialRotary", Config(R"({"partial_rotary_factor": 0.5})"), {"partial_rotary_factor: 0.5"}},
    {"PartialRotaryInside",
     Config(R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}})"),
     {"partial_rotary_factor: 0.5"}},
    {"Yarn",
     Config(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}})"),
     {"rope_scaling.rope_type: yarn"}},
    {"MultimodalGemma", Config(R"({"model_type": "gemma3"})"), {"gemma3 is the multimodal model"}},
    {"YarnInNewForm",
     Config(R"({"rope_parameters": {"rope_type": "yarn"}})"),
     {"rope_parameters.rope_type: yarn"}},
    {"RopePerLayerKind",
     Config(R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})"),
     {"rope_parameters: full_attention"}},
    {"Dtype", Config(R"({"torch_dtype": "float8_e4m3fn"})"), {"torch_dtype: float8_e4m3fn"}},
};
INSTANTIATE_TEST_SUITE_P(Config, Unsupported, ::testing::ValuesIn(kUnsupportedCases),
                         [](const auto& info) { return std::string(info.param.name); });

class Invalid : public ::testing::TestWithParam<Case> {};
TEST_P(Invalid, NamesTheKey) {
  EXPECT_STATUS(ParseModelConfig(GetParam().text), kInvalidArgument, kModelCorrupt,
                GetParam().expected);
}

std::string Repeat(std::string_view text, int count) {
  std::string all;
  for (int i = 0; i < count; ++i) all += text;
  return all;
}

const Case kInvalidCases[] = {
    {"Empty", "", {"config.json: not JSON"}},
    {"NotJson", "{\"model_type\": llama}", {"config.json: not JSON"}},
    {"Array", "[]", {"config.json: not a JSON object"}},
    {"NotUtf8", "{\"model_type\": \"\xff\"}", {"config.json: not JSON"}},
    {"NulInside", Config() + std::string("\0x", 2), {"config.json: not JSON"}},
    {"DepthBomb", Repeat("[", 1'000'000), {"nested too deeply"}},
    {"ObjectDepthBomb", Repeat("{\"a\":", 1'000'000), {"nested too deeply"}},
    {"NoModelType", Config(R"({"model_type": null})"), {"model_type: missing"}},
    {"ModelTypeIsNumber", Config(R"({"model_type": 3})"), {"model_type: 3 is not a string"}},
    {"NoVocab", Config(R"({"vocab_size": null})"), {"vocab_size: missing"}},
    {"NoHidden", Config(R"({"hidden_size": null})"), {"hidden_size: missing"}},
    {"NoIntermediate", Config(R"({"intermediate_size": null})"), {"intermediate_size: missing"}},
    {"NoLayers", Config(R"({"num_hidden_layers": null})"), {"num_hidden_layers: missing"}},
    {"NoHeads", Config(R"({"num_attention_heads": null})"), {"num_attention_heads: missing"}},
    {"ZeroHidden", Config(R"({"hidden_size": 0})"), {"hidden_size: 0"}},
    {"ZeroHeads", Config(R"({"num_attention_heads": 0})"), {"num_attention_heads: 0"}},
    {"ZeroKvHeads", Config(R"({"num_key_value_heads": 0})"), {"num_key_value_heads: 0"}},
    {"NegativeLayers", Config(R"({"num_hidden_layers": -1})"), {"num_hidden_layers: -1"}},
    {"AbsurdHidden", Config(R"({"hidden_size": 1099511627776})"), {"hidden_size: 1099511627776"}},
    {"AbsurdLayers", Config(R"({"num_hidden_layers": 100000000})"), {"num_hidden_layers"}},
    {"HugeUnsigned",
     Config(R"({"vocab_size": 18446744073709551615})"),
     {"vocab_size: 18446744073709551615"}},
    {"HugeNumber", Config(R"({"vocab_size": 1e300})"), {"vocab_size: 1e+300 is not an integer"}},
    {"HiddenIsText", Config(R"({"hidden_size": "64"})"), {"hidden_size: \"64\""}},
    {"HiddenIsObject", Config(R"({"hidden_size": {"a": 1}})"), {"hidden_size: {\"a\":1}"}},
    {"HeadsDoNotDivideHidden",
     Config(R"({"num_attention_heads": 7})"),
     {"num_attention_heads: 7", "hidden_size 64"}},
    {"KvHeadsDoNotDivideHeads",
     Config(R"({"num_key_value_heads": 3})"),
     {"num_key_value_heads: 3", "num_attention_heads 8"}},
    {"MoreKvHeadsThanHeads", Config(R"({"num_key_value_heads": 16})"), {"num_key_value_heads: 16"}},
    {"OddHeadDim", Config(R"({"head_dim": 5})"), {"head_dim: 5 is odd"}},
    {"HeadsTimesDimAbsurd", Config(R"({"head_dim": 1000000})"), {"head_dim"}},
    {"EpsilonIsText", Config(R"({"rms_norm_eps": "1e-5"})"), {"rms_norm_eps"}},
    {"EpsilonZero", Config(R"({"rms_norm_eps": 0})"), {"rms_norm_eps: 0"}},
    {"BiasIsNumber", Config(R"({"attention_bias": 1})"), {"attention_bias: 1"}},
    {"TieIsText", Config(R"({"tie_word_embeddings": "true"})"), {"tie_word_embeddings"}},
    {"ThetaNegative", Config(R"({"rope_theta": -1.0})"), {"rope_theta: -1.0"}},
    {"ScalingIsText", Config(R"({"rope_scaling": "linear"})"), {"rope_scaling: \"linear\""}},
    {"ScalingWithoutType",
     Config(R"({"rope_scaling": {"factor": 2}})"),
     {"rope_scaling.rope_type: missing"}},
    {"LinearWithoutFactor",
     Config(R"({"rope_scaling": {"type": "linear"}})"),
     {"rope_scaling.factor: missing"}},
    {"FactorZero",
     Config(R"({"rope_scaling": {"type": "linear", "factor": 0}})"),
     {"rope_scaling.factor: 0"}},
    {"Llama3Incomplete",
     Config(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8,
                "original_max_position_embeddings": 8192, "low_freq_factor": 1}})"),
     {"rope_scaling.high_freq_factor: missing"}},
    {"Llama3Reversed",
     Config(R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "high_freq_factor": 1,
                "original_max_position_embeddings": 8192, "low_freq_factor": 4}})"),
     {"rope_scaling.high_freq_factor: is not above"}},
    {"LongRopeOfWrongLength",
     Config(R"({"rope_scaling": {"type": "longrope", "short_factor": [1, 1, 1, 1],
                "long_factor": [1]}})"),
     {"rope_scaling.long_factor: [1] is not a list of 4 numbers"}},
    {"LongRopeOfWords",
     Config(R"({"rope_scaling": {"type": "longrope", "long_factor": [1, 1, 1, 1],
                "short_factor": [1, 1, "x", 1]}})"),
     {"rope_scaling.short_factor: \"x\""}},
    {"TwoThetas",
     Config(R"({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}})"),
     {"rope_parameters.rope_theta"}},
    {"LayerTypesIsText", Config(R"({"layer_types": 3})"), {"layer_types: 3"}},
};
INSTANTIATE_TEST_SUITE_P(Config, Invalid, ::testing::ValuesIn(kInvalidCases),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(ParseModelConfig, TheRealTinyModel) {
  std::ifstream in(SourceDir() + "/../shared/models/stories260K/config.json");
  if (!in) GTEST_SKIP() << "../shared/models/stories260K not present";
  const auto config = ParseModelConfig(std::string(std::istreambuf_iterator<char>(in), {}));
  ASSERT_OK(config);
  EXPECT_EQ(config->num_heads, 8);
  EXPECT_EQ(config->num_kv_heads, 4);
  EXPECT_EQ(config->num_layers, 5);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_EQ(config->norm_eps, 1e-5);
}

}  // namespace
}  // namespace svdllm
