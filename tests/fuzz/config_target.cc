#include "checkpoint/architecture.h"
#include "checkpoint/parse_config.h"
#include "tests/fuzz/targets.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm::testing {
namespace {

// What the code behind a configuration relies on.
void CheckInvariants(const ModelConfig& config) {
  FUZZ_CHECK(FindArchitecture(config.family) != nullptr, config.family);
  FUZZ_CHECK(config.vocab_size > 0, config.family);
  FUZZ_CHECK(config.num_layers > 0, config.family);
  FUZZ_CHECK(config.max_position_embeddings > 0, config.family);
  FUZZ_CHECK(config.num_kv_heads > 0, config.family);
  FUZZ_CHECK(config.num_heads % config.num_kv_heads == 0, config.family);
  FUZZ_CHECK(config.head_dim > 0, config.family);
  if (FindArchitecture(config.family)->position == PositionKind::kRotary) {
    FUZZ_CHECK(config.rope.dim >= 2, config.family);
    FUZZ_CHECK(config.rope.dim <= config.head_dim, config.family);
    FUZZ_CHECK(config.rope.dim % 2 == 0, config.family);
  }
  if (config.rope.kind == RopeKind::kLongRope) {
    FUZZ_CHECK(static_cast<int64_t>(config.rope.short_factor.size()) == config.rope.dim / 2,
               config.family);
    FUZZ_CHECK(static_cast<int64_t>(config.rope.long_factor.size()) == config.rope.dim / 2,
               config.family);
  }
  if (!config.sliding_layers.empty()) {
    FUZZ_CHECK(static_cast<int64_t>(config.sliding_layers.size()) == config.num_layers,
               config.family);
    FUZZ_CHECK(config.sliding_window > 0, config.family);
  }
  FUZZ_CHECK(config.norm_eps > 0, config.family);
  FUZZ_CHECK(config.rope.theta > 0, config.family);
  FUZZ_CHECK(config.rope.factor > 0, config.family);
  for (int id = 0; id < kNumLinears; ++id) {
    const LinearShape shape = ShapeOf(config, static_cast<LinearId>(id));
    FUZZ_CHECK(shape.rows > 0, config.family);
    FUZZ_CHECK(shape.cols > 0, config.family);
    FUZZ_CHECK(shape.rows * shape.cols <= int64_t{1} << 40, config.family);
  }
  for (const LowRankModule& module : config.low_rank) FUZZ_CHECK(module.rank > 0, config.family);
}

void Run(std::string_view bytes) {
  const auto config = ParseModelConfig(std::string(bytes));
  if (config.ok()) {
    CheckInvariants(*config);
  } else {
    CheckRefusal(config.status(), {kModelCorrupt, kUnsupportedArchitecture});
  }
}

}  // namespace

FuzzTarget ConfigTarget() {
  std::vector<std::string> seeds = {
      R"({"model_type": "llama", "architectures": ["LlamaForCausalLM", "LlamaModel"],
          "is_causal": true, "is_encoder_decoder": false, "vocab_size": 9, "hidden_size": 8,
          "intermediate_size": 9, "num_hidden_layers": 1, "num_attention_heads": 2})",
      R"({"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 172,
          "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 4,
          "rope_theta": 10000.0, "rope_scaling": null, "torch_dtype": "float32"})",
      R"({"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 172,
          "num_hidden_layers": 5, "num_attention_heads": 8, "head_dim": 8, "dtype": "bfloat16",
          "rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0,
          "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}})",
      R"({"model_type": "lowrank_llama", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 9,
          "num_hidden_layers": 1, "num_attention_heads": 2, "low_rank_config": {"format_version": 1,
          "method": "svd", "keep_ratio": 0.8, "encoding": "plain", "modules":
          {"model.layers.0.self_attn.q_proj": {"rank": 3}}}})",
      R"({"model_type": "lowrank_llama", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 9,
          "num_hidden_layers": 1, "num_attention_heads": 2, "low_rank_config": {"format_version": 1,
          "method": "anchored", "keep_ratio": 0.8, "encoding": "pivoted", "modules":
          {"model.layers.0.mlp.down_proj": {"rank": 8}}}})",
      R"({"model_type": "opt", "vocab_size": 9, "hidden_size": 8, "ffn_dim": 9,
          "num_hidden_layers": 1, "num_attention_heads": 2, "word_embed_proj_dim": 5,
          "do_layer_norm_before": false, "activation_function": "relu"})",
      R"({"model_type": "gemma3_text", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 9,
          "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
          "sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"],
          "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 8,
          "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0},
          "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}})",
      R"({"model_type": "phi3", "vocab_size": 9, "hidden_size": 16, "intermediate_size": 9,
          "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2,
          "partial_rotary_factor": 0.5, "sliding_window": 2047, "rope_scaling": {"type": "su",
          "short_factor": [1.0, 1.5], "long_factor": [2.0, 4.0]}})",
      R"({"model_type": "qwen2", "vocab_size": 9, "hidden_size": 8, "intermediate_size": 9,
          "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
          "use_sliding_window": true, "sliding_window": 4, "max_window_layers": 1})",
  };
  const TempDir dir;
  for (const auto& [name, options] : TinyFamilies()) {
    WriteTinyCheckpoint(dir.File(name), options);
    seeds.push_back(ReadOrDie(dir.File(name) + "/config.json"));
  }
  const std::vector<std::string> words = {"{",
                                          "}",
                                          "[",
                                          "]",
                                          "\"",
                                          ",",
                                          ":",
                                          "null",
                                          "true",
                                          "-1",
                                          "0",
                                          "1e400",
                                          "0.5",
                                          "4294967296",
                                          "18446744073709551615",
                                          "\"linear\"",
                                          "\"dynamic\"",
                                          "\"yarn\"",
                                          "\"rope_scaling\"",
                                          "\"rope_type\"",
                                          "\"factor\"",
                                          "\"layer_types\": [",
                                          "\"sliding_window\": 5,",
                                          "\"quantization_config\": {},",
                                          "\"head_dim\": 6,",
                                          "\xff",
                                          "\\ud800",
                                          "[[[[[[[[[[[["};
  return {"config", Run, seeds, words};
}

}  // namespace svdllm::testing
