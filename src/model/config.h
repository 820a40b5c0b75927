// A checkpoint's configuration: config.json checked and turned into plain values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "linalg/dtype.h"

namespace svdllm {

// How rotary frequencies are scaled, as transformers computes them. Inverse frequency of pair i of
// head_dim d: theta^(−2i/d), changed by kind:
//   linear   divided by factor
//   dynamic  theta grows with the sequence's length L beyond max_position_embeddings P:
//            theta · ((factor·L/P) − (factor − 1))^(d/(d−2))
//   llama3   divided by factor for wavelengths above original/low_freq_factor, kept below
//            original/high_freq_factor, smoothly blended in between
enum class RopeKind { kDefault, kLinear, kDynamic, kLlama3 };

struct RopeConfig {
  RopeKind kind = RopeKind::kDefault;
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  int64_t original_max_position_embeddings = 0;          // llama3; dynamic where given
};

// What low_rank_config of one of our artifacts says; see docs/formats.md.
struct LowRankModule {
  std::string name;  // module path: "model.layers.0.self_attn.q_proj"
  int64_t rank = 0;
};

struct ModelConfig {
  std::string model_type;  // as written: "llama", or "lowrank_llama" for an artifact
  std::string family;      // the architecture table's row: "llama"
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;  // num_heads where not given
  int64_t head_dim = 0;      // hidden_size / num_heads where not given
  int64_t max_position_embeddings = 2048;
  double norm_eps = 1e-6;
  std::string hidden_act = "silu";
  bool attention_bias = false;  // on q, k, v and o
  bool mlp_bias = false;
  bool tie_word_embeddings = false;
  RopeConfig rope;
  DType dtype = DType::kF32;            // torch_dtype / dtype; what it says, the tensors decide
  std::vector<LowRankModule> low_rank;  // empty for a dense checkpoint
  bool pivoted = false;                 // how they are stored: encoding "pivoted", not "plain"

  bool is_low_rank() const { return !low_rank.empty() || model_type.rfind("lowrank_", 0) == 0; }
};

// Parses the text of a config.json. Errors name the key. UNIMPLEMENTED with reason
// UNSUPPORTED_ARCHITECTURE and the list of known families for an unknown model_type, activation,
// rope scaling or quantization_config (also sliding windows and the like that would change the
// arithmetic silently); INVALID_ARGUMENT with MODEL_CORRUPT for missing, wrongly typed or
// impossible values (sizes ≤ 0 or absurd, heads not divisible by kv heads, odd head_dim).
absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& json_text);

}  // namespace svdllm
