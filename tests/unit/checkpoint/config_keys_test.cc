// Every key of config.json that transformers' configuration, modelling, mask and cache code reads
// for a family, and what it does here: it changes what is computed, as there; it is refused by
// name; or it has no influence on the numbers there either. tests/reference/config_keys.py compares
// this list with an installed transformers (5.24 when it was written).
#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <vector>

#include "checkpoint/parse_config.h"
#include "tests/support/status_matchers.h"

namespace svdllm {
namespace {

using nlohmann::json;

enum Effect { kComputed, kRefused, kNone };

struct KeyRow {
  const char* key;
  Effect effect;
  const char* example;        // a value for which it shows
  const char* beside = "{}";  // other keys that must be there for it
};

// What all families' classes inherit, and what the loader, the masks and the cache ask for.
const std::vector<KeyRow> kCommon = {
    {"vocab_size", kComputed, "101"},
    {"hidden_size", kComputed, "128"},
    {"num_hidden_layers", kComputed, "5"},
    {"num_attention_heads", kComputed, "16"},
    {"max_position_embeddings", kComputed, "77"},
    {"dtype", kComputed, "\"bfloat16\""},
    {"torch_dtype", kComputed, "\"float16\""},
    {"dtype", kRefused, "\"int8\""},
    {"model_type", kRefused, "\"bert\""},
    {"architectures", kNone, "[\"AnyForCausalLM\"]"},
    {"architectures", kNone, "[]"},
    {"architectures", kRefused, "[\"LlamaForSequenceClassification\"]"},
    {"architectures", kRefused, "[\"Qwen2ForTokenClassification\"]"},
    {"architectures", kRefused, "[\"OPTForQuestionAnswering\"]"},
    {"architectures", kRefused, "[\"LlamaBidirectionalModel\"]"},
    {"is_causal", kNone, "true"},
    {"is_causal", kRefused, "false"},
    {"is_causal", kRefused, "null"},  // falsy
    {"is_causal", kRefused, "\"yes\""},
    {"attention_chunk_size", kRefused, "128"},
    {"attention_chunk_size", kNone, "null"},
    {"per_layer_config", kRefused, "{\"0\": {\"head_dim\": 4}}"},
    {"kv_sharing_modes", kRefused, "[\"reuse\"]"},
    {"transformers_weights", kRefused, "\"other.safetensors\""},
    {"quantization_config", kRefused, "{\"bits\": 4}"},
    {"text_config", kRefused, "{\"hidden_size\": 64}"},
    {"text_encoder", kRefused, "{}"},
    {"decoder", kRefused, "{}"},
    {"generator", kRefused, "{}"},
    {"is_encoder_decoder", kRefused, "true"},
    {"is_encoder_decoder", kNone, "false"},
    // Training, outputs beside the logits, labels, bookkeeping.
    {"attention_dropout", kNone, "0.5"},
    {"initializer_range", kNone, "0.5"},
    {"init_std", kNone, "0.5"},
    {"initializer_factor", kNone, "2.0"},
    {"use_cache", kNone, "false"},
    {"pad_token_id", kNone, "3"},
    {"bos_token_id", kNone, "3"},
    {"eos_token_id", kNone, "[3, 4]"},
    {"sep_token_id", kNone, "3"},
    {"output_attentions", kNone, "true"},
    {"output_hidden_states", kNone, "true"},
    {"return_dict", kNone, "false"},
    {"tie_last_hidden_states", kNone, "true"},
    {"chunk_size_feed_forward", kNone, "2"},
    {"id2label", kNone, "{\"0\": \"x\"}"},
    {"label2id", kNone, "{\"x\": 0}"},
    {"num_labels", kNone, "1"},
    {"problem_type", kNone, "\"regression\""},
    {"name_or_path", kNone, "\"x\""},
    {"_name_or_path", kNone, "\"x\""},
    {"_commit_hash", kNone, "\"x\""},
    {"transformers_version", kNone, "\"4.0.0\""},
    {"attn_implementation", kNone, "\"eager\""},
    {"_attn_implementation", kNone, "\"eager\""},
    {"_attn_implementation_internal", kNone, "\"eager\""},
    {"experts_implementation", kNone, "\"eager\""},
    {"_experts_implementation", kNone, "\"eager\""},
    {"_experts_implementation_internal", kNone, "\"eager\""},
    {"fusion_config", kNone, "{}"},
    {"gradient_checkpointing", kNone, "true"},
    {"distributed_config", kNone, "{}"},
    {"compile_config", kNone, "{}"},
    {"number_of_conv_states", kNone, "2"},
    {"device_map", kNone, "{}"},
    {"device_mesh", kNone, "{}"},
    {"ignore_mismatched_sizes", kNone, "true"},
    {"mlp_layer_types", kNone, "[\"dense\"]"},
    {"mtp_layer_types", kNone, "[\"full_attention\"]"},
    {"first_k_dense_replace", kNone, "1"},
    {"num_mtp_layers", kNone, "1"},
    {"auto_map", kNone, "{\"AutoModel\": \"x.Y\"}"},
};

constexpr char kLlama3[] =
    R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
        "high_freq_factor": 4, "original_max_position_embeddings": 64}})";
constexpr char kLongRope[] =
    R"({"rope_scaling": {"type": "longrope", "short_factor": [1, 2, 3, 4],
        "long_factor": [5, 6, 7, 8]}, "head_dim": 8, "max_position_embeddings": 65536})";

// Of the families with a gate, RMS norms and rotary positions.
const std::vector<KeyRow> kRotary = {
    {"intermediate_size", kComputed, "99"},
    {"num_key_value_heads", kComputed, "2"},
    {"head_dim", kComputed, "24"},
    {"rms_norm_eps", kComputed, "0.001"},
    {"rope_theta", kComputed, "500000.0"},
    {"rope_scaling", kComputed, R"({"rope_type": "linear", "factor": 2.0})"},
    {"rope_scaling", kComputed, R"({"type": "dynamic", "factor": 2.0})"},
    {"rope_scaling", kRefused, R"({"rope_type": "proportional"})"},
    {"default_theta", kNone, "7"},
};

// Of those whose layers have all the same positions.
const std::vector<KeyRow> kOneRope = {
    {"rope_parameters", kComputed, R"({"rope_theta": 7.0})"},
    {"rope_parameters", kRefused, R"({"rope_type": "proportional"})"},
    {"rope_parameters", kRefused, R"({"full_attention": {"rope_type": "default"}})"},
    {"original_max_position_embeddings", kComputed, "32", kLlama3},
};
const std::vector<KeyRow> kWholeHeads = {{"partial_rotary_factor", kRefused, "0.5"},
                                         {"partial_rotary_factor", kNone, "1.0"},
                                         {"rope_scaling", kRefused, R"({"rope_type": "yarn"})"}};
const std::vector<KeyRow> kHiddenAct = {{"hidden_act", kComputed, "\"relu\""},
                                        {"hidden_act", kRefused, "\"quick_gelu\""}};
const std::vector<KeyRow> kUntied = {{"tie_word_embeddings", kComputed, "true"}};
const std::vector<KeyRow> kTied = {{"tie_word_embeddings", kComputed, "false"}};
// The cache goes by these even where the masks do not.
const std::vector<KeyRow> kNoWindows = {
    {"sliding_window", kRefused, "16"},
    {"layer_types", kRefused,
     R"(["full_attention", "full_attention", "full_attention", "full_attention", "full_attention",
         "sliding_attention"])"},
    {"layer_types", kNone,
     R"(["full_attention", "full_attention", "full_attention", "full_attention", "full_attention",
         "full_attention"])"}};
constexpr char kFirstSlides[] =
    R"(["sliding_attention", "full_attention", "full_attention", "full_attention",
        "full_attention", "full_attention"])";
constexpr char kChunked[] =
    R"(["chunked_attention", "full_attention", "full_attention", "full_attention",
        "full_attention", "full_attention"])";
const std::vector<KeyRow> kUpperWindows = {
    {"use_sliding_window", kComputed, "true", R"({"max_window_layers": 2})"},
    {"sliding_window", kComputed, "16", R"({"use_sliding_window": true, "max_window_layers": 2})"},
    {"max_window_layers", kComputed, "3", R"({"use_sliding_window": true})"},
    {"layer_types", kComputed, kFirstSlides, R"({"use_sliding_window": true})"},
    {"layer_types", kRefused, kChunked},
};
const std::vector<KeyRow> kGemma = {
    {"hidden_activation", kComputed, "\"relu\""},
    {"hidden_activation", kRefused, "\"quick_gelu\""},
    {"query_pre_attn_scalar", kComputed, "144"},
    {"sliding_window", kComputed, "16"},
    {"layer_types", kComputed, kFirstSlides},
    {"layer_types", kRefused, kChunked},
    {"final_logit_softcapping", kComputed, "12.5"},
    {"attention_bias", kComputed, "true"},
    {"use_bidirectional_attention", kRefused, "true"},
    {"use_bidirectional_attention", kNone, "false"},
};

using Table = std::map<std::string, std::vector<KeyRow>>;

std::vector<KeyRow> Joined(std::initializer_list<std::vector<KeyRow>> parts) {
  std::vector<KeyRow> rows = kCommon;
  for (const std::vector<KeyRow>& part : parts) rows.insert(rows.end(), part.begin(), part.end());
  return rows;
}

Table AllKeys() {
  Table keys;
  keys["llama"] = Joined({kRotary,
                          kOneRope,
                          kWholeHeads,
                          kHiddenAct,
                          kUntied,
                          kNoWindows,
                          {{"attention_bias", kComputed, "true"},
                           {"mlp_bias", kComputed, "true"},
                           {"pretraining_tp", kNone, "2"}}});
  keys["mistral"] = Joined({kRotary,
                            kOneRope,
                            kWholeHeads,
                            kHiddenAct,
                            kUntied,
                            {{"sliding_window", kComputed, "16"},
                             {"sliding_window", kComputed, "null"},
                             {"layer_types", kRefused, kFirstSlides}}});
  keys["qwen2"] = Joined({kRotary, kOneRope, kWholeHeads, kHiddenAct, kUntied, kUpperWindows});
  keys["qwen3"] = Joined({kRotary,
                          kOneRope,
                          kWholeHeads,
                          kHiddenAct,
                          kUntied,
                          kUpperWindows,
                          {{"attention_bias", kComputed, "true"}}});
  keys["gemma2"] = Joined({kRotary,
                           kOneRope,
                           kWholeHeads,
                           kTied,
                           kGemma,
                           {{"attn_logit_softcapping", kComputed, "12.5"}}});
  keys["gemma3_text"] =
      Joined({kRotary,
              kWholeHeads,
              kTied,
              kGemma,
              {{"attn_logit_softcapping", kRefused, "12.5"},
               {"rope_local_base_freq", kComputed, "77.0"},
               {"sliding_window_pattern", kComputed, "2"},
               {"rope_parameters", kComputed, R"({"full_attention": {"rope_theta": 7.0}})"},
               {"rope_parameters", kComputed, R"({"sliding_attention": {"rope_theta": 7.0}})"},
               {"rope_parameters", kComputed, R"({"full_attention": {"rope_theta": 7.0}})",
                R"({"rope_scaling": {"rope_type": "linear", "factor": 2.0}})"},
               {"rope_parameters", kRefused, R"({"rope_theta": 7.0})"}}});
  keys["phi3"] = Joined({kRotary,
                         kOneRope,
                         kHiddenAct,
                         kUntied,
                         {{"partial_rotary_factor", kComputed, "0.5"},
                          {"original_max_position_embeddings", kComputed, "77", kLongRope},
                          {"sliding_window", kComputed, "16"},
                          {"layer_types", kRefused, kFirstSlides},
                          {"resid_pdrop", kNone, "0.5"},
                          {"embd_pdrop", kNone, "0.5"}}});
  keys["opt"] = Joined({kTied,
                        kNoWindows,
                        {{"ffn_dim", kComputed, "99"},
                         {"activation_function", kComputed, "\"gelu\""},
                         {"activation_function", kRefused, "\"tanh\""},
                         {"do_layer_norm_before", kComputed, "false"},
                         {"word_embed_proj_dim", kComputed, "40"},
                         {"_remove_final_layer_norm", kComputed, "true"},
                         {"enable_bias", kRefused, "false"},
                         {"layer_norm_elementwise_affine", kRefused, "false"},
                         {"dropout", kNone, "0.5"},
                         {"layerdrop", kNone, "0.5"}}});
  return keys;
}

// The least that a family's file says.
json Least(const std::string& family) {
  json config = json::parse(R"({"vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 6,
                                "num_attention_heads": 8})");
  config["model_type"] = family;
  config[family == "opt" ? "ffn_dim" : "intermediate_size"] = 172;
  if (family != "opt") config["num_key_value_heads"] = 4;
  return config;
}

void Describe(std::ostream& out, const RopeConfig& rope) {
  out << " rope " << static_cast<int>(rope.kind) << ' ' << rope.dim << ' ' << rope.theta << ' '
      << rope.factor << ' ' << rope.low_freq_factor << ' ' << rope.high_freq_factor << ' '
      << rope.original_max_position_embeddings << ' ' << rope.attention_factor;
  for (const double factor : rope.short_factor) out << ' ' << factor;
  for (const double factor : rope.long_factor) out << ' ' << factor;
}

// All that a model computes with.
std::string Description(const ModelConfig& c) {
  std::ostringstream out;
  out << c.family << ' ' << c.is_base_model << ' ' << c.vocab_size << ' ' << c.hidden_size << ' '
      << c.embedding_size << ' ' << c.intermediate_size << ' ' << c.num_layers << ' ' << c.num_heads
      << ' ' << c.num_kv_heads << ' ' << c.head_dim << ' ' << c.max_position_embeddings << ' '
      << c.norm_eps << ' ' << static_cast<int>(c.activation) << ' ' << c.attention_bias
      << c.output_bias << c.mlp_bias << c.tie_word_embeddings << c.norms_behind << c.final_norm
      << ' ' << c.embedding_scale << ' ' << c.attention_scale << ' ' << c.attention_softcap << ' '
      << c.logit_softcap << ' ' << static_cast<int>(c.dtype);
  for (int64_t layer = 0; layer < c.num_layers; ++layer) out << ' ' << c.Window(layer);
  Describe(out, c.rope);
  if (c.local_rope) Describe(out, *c.local_rope);
  return out.str();
}

TEST(ConfigKeys, EachIsComputedRefusedOrWithoutInfluence) {
  for (const auto& [family, rows] : AllKeys()) {
    for (const KeyRow& row : rows) {
      SCOPED_TRACE(family + ": " + row.key + ": " + row.example);
      json config = Least(family);
      config.update(json::parse(row.beside));
      const auto without = ParseModelConfig(config.dump());
      ASSERT_OK(without);
      config[row.key] = json::parse(row.example);
      const auto with = ParseModelConfig(config.dump());
      if (row.effect == kRefused) {
        EXPECT_STATUS(with, kUnimplemented, kUnsupportedArchitecture, {row.key});
        continue;
      }
      ASSERT_OK(with);
      if (row.effect == kComputed) {
        EXPECT_NE(Description(*with), Description(*without));
      } else {
        EXPECT_EQ(Description(*with), Description(*without));
      }
    }
  }
}

TEST(ConfigKeys, TheClassWithoutAHeadIsRemembered) {
  EXPECT_FALSE(ParseModelConfig(Least("opt").dump())->is_base_model);
  for (const auto& [family, name] : std::map<std::string, std::string>{
           {"llama", "LlamaModel"}, {"opt", "OPTModel"}, {"gemma3_text", "Gemma3TextModel"}}) {
    json config = Least(family);
    config["architectures"] = {name};
    EXPECT_TRUE(ParseModelConfig(config.dump())->is_base_model) << family;
    config["architectures"] = {name, "AnyForCausalLM"};
    EXPECT_FALSE(ParseModelConfig(config.dump())->is_base_model) << family;
  }
}

TEST(ConfigKeys, Gemma3TakesBothFormsOfRopeTogether) {
  json config = Least("gemma3_text");
  config["rope_scaling"] = {{"rope_type", "linear"}, {"factor", 2.0}};
  config["rope_parameters"]["full_attention"] = {{"rope_theta", 7.0}, {"rope_type", "default"}};
  const auto parsed = ParseModelConfig(config.dump());
  ASSERT_OK(parsed);
  EXPECT_EQ(parsed->rope.kind, RopeKind::kLinear);
  EXPECT_EQ(parsed->rope.theta, 7.0);
  EXPECT_EQ(parsed->local_rope->kind, RopeKind::kDefault);
}

TEST(ConfigKeys, DynamicScalingBeginsWhereTransformersBegins) {
  json config = Least("llama");
  config["rope_scaling"] = {
      {"type", "dynamic"}, {"factor", 2.0}, {"original_max_position_embeddings", 512}};
  EXPECT_STATUS(ParseModelConfig(config.dump()), kUnimplemented, kUnsupportedArchitecture,
                {"rope_scaling.original_max_position_embeddings: 512"});
}

}  // namespace
}  // namespace svdllm
