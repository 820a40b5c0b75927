// The architecture table: what distinguishes one model family from another, as data. A family is a
// row; the forward pass switches on its enums.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"

namespace svdllm {

enum class NormKind { kRmsNorm };
enum class PositionKind { kRope };
enum class MlpKind { kGatedSilu };

// The activation sites of a block that linears read, one Gram each.
enum class Site : uint8_t { kAttnIn, kOIn, kMlpIn, kDownIn };
inline constexpr int kNumSites = 4;
// "attn_in", "o_in", "mlp_in", "down_in".
std::string_view SiteName(Site site);

// The linears of a block, in the order in which a block computes them.
enum class LinearId : uint8_t { kQ, kK, kV, kO, kGate, kUp, kDown };
inline constexpr int kNumLinears = 7;

struct LinearRow {
  LinearId id;
  std::string_view module;  // below the layer's prefix: "self_attn.q_proj"
  Site input;
};

struct Architecture {
  std::string_view family;  // "llama"
  NormKind norm;
  PositionKind position;
  MlpKind mlp;
  std::string_view layer_prefix;  // "model.layers."; then the layer's number and a dot
  std::string_view embedding;     // "model.embed_tokens.weight"
  std::string_view final_norm;    // "model.norm.weight"
  std::string_view head;          // "lm_head.weight"; absent where tied
  std::string_view attn_norm;     // below the layer's prefix: "input_layernorm.weight"
  std::string_view mlp_norm;      // "post_attention_layernorm.weight"
  std::span<const LinearRow> linears;
};

// nullptr for an unknown family.
const Architecture* FindArchitecture(std::string_view family);
std::vector<std::string> KnownFamilies();

// Output and input features of a linear: W is [rows, cols].
struct LinearShape {
  int64_t rows = 0, cols = 0;
};
LinearShape ShapeOf(const ModelConfig& config, LinearId id);
bool HasBias(const ModelConfig& config, LinearId id);
// "model.layers.3.self_attn.q_proj".
std::string ModulePath(const Architecture& arch, int64_t layer, LinearId id);

}  // namespace svdllm
