// A checkpoint's configuration as plain values; parse_config.h reads it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "linalg/dtype.h"
#include "linalg/operands.h"

namespace svdllm {

// How rotary frequencies are scaled, as transformers computes them. Inverse frequency of pair i of
// dim d: theta^(−2i/d), changed by kind:
//   linear   divided by factor
//   dynamic  theta grows with the sequence's length L beyond original P:
//            theta · ((factor·L/P) − (factor − 1))^(d/(d−2))
//   llama3   divided by factor for wavelengths above original/low_freq_factor, kept below
//            original/high_freq_factor, smoothly blended in between
//   longrope divided by long_factor[i] in sequences longer than original, by short_factor[i] in
//            others; cosines and sines times attention_factor
enum class RopeKind { kDefault, kLinear, kDynamic, kLlama3, kLongRope };

struct RopeConfig {
  RopeKind kind = RopeKind::kDefault;
  int64_t dim = 0;  // elements of a head that are turned, the first ones; 0: no rotary positions
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;  // llama3
  int64_t original_max_position_embeddings = 0;          // dynamic, llama3, longrope
  double attention_factor = 1.0;                         // longrope
  std::vector<double> short_factor, long_factor;         // longrope: dim/2 of each
};

// A module in low_rank_config of one of our artifacts; see docs/formats.md.
struct LowRankModule {
  std::string name;  // module path: "model.layers.0.self_attn.q_proj"
  int64_t rank = 0;
};

struct ModelConfig {
  std::string model_type;      // as written: "llama", or "lowrank_llama" for an artifact
  std::string family;          // the architecture table's row: "llama"
  bool is_base_model = false;  // architectures names the class without a head
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t embedding_size = 0;  // of a token in the embedding and the head; mostly it is hidden_size
  int64_t intermediate_size = 0;
  int64_t num_layers = 0;
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position_embeddings = 2048;
  double norm_eps = 1e-6;
  Activation activation = Activation::kSilu;
  bool attention_bias = false;  // on q, k and v
  bool output_bias = false;     // on o
  bool mlp_bias = false;
  bool tie_word_embeddings = false;
  // Norms stand behind the halves of a block, after the residual sum, instead of in front of them.
  bool norms_behind = false;
  bool final_norm = true;
  double embedding_scale = 1;
  double attention_scale = 0;    // AttentionShape::scale
  double attention_softcap = 0;  // AttentionShape::softcap
  double logit_softcap = 0;      // logits become cap · tanh(logit / cap); 0: they stay
  // It computes badly on a sequence that does not begin with the tokens that its tokenizer puts in
  // front of a text.
  bool needs_start = false;
  RopeConfig rope;
  std::optional<RopeConfig> local_rope;  // that of the sliding layers, where they have another
  int64_t sliding_window = 0;            // that of the sliding layers: AttentionShape::window
  std::vector<bool> sliding_layers;      // empty, or one per layer

  DType dtype = DType::kF32;  // torch_dtype or dtype of the file; the tensors themselves decide
  std::vector<LowRankModule> low_rank;  // empty for a dense checkpoint
  bool pivoted = false;                 // how they are stored: encoding "pivoted", not "plain"

  bool Slides(int64_t layer) const {
    return !sliding_layers.empty() && sliding_layers[static_cast<size_t>(layer)];
  }
  // The most keys that a query of this layer sees. 0: all of them.
  int64_t Window(int64_t layer) const { return Slides(layer) ? sliding_window : 0; }
  bool is_low_rank() const { return !low_rank.empty() || model_type.rfind("lowrank_", 0) == 0; }
};

}  // namespace svdllm
