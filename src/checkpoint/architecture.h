// The architecture table: what distinguishes one model family from another, as data. A family is a
// row; the forward pass switches on its enums.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/config.h"

namespace svdllm {

// kRmsPlusOne: as kRms, with weights stored less 1. kLayer: with a bias.
enum class NormKind { kRms, kRmsPlusOne, kLayer };
// kLearned: added to the embedding, from row kLearnedOffset of a table on.
enum class PositionKind { kRotary, kLearned };
inline constexpr int64_t kLearnedOffset = 2;

// The activation sites of a block that linears read, one Gram each.
enum class Site : uint8_t { kAttnIn, kOIn, kMlpIn, kDownIn };
inline constexpr int kNumSites = 4;
// "attn_in", "o_in", "mlp_in", "down_in".
std::string_view SiteName(Site site);

// The linears of a block, in the order in which a block computes them. A block without a gate
// computes down(activation(up)).
enum class LinearId : uint8_t { kQ, kK, kV, kO, kGate, kUp, kDown };
inline constexpr int kNumLinears = 7;

struct LinearRow {
  LinearId id;
  std::string_view module;  // below the layer's prefix: "self_attn.q_proj"
  Site input;
  // The module that holds this one's weight in a dense checkpoint, among those of the rows with the
  // same name here, in their order. Empty: it has a tensor of its own. A module of the artifact is
  // in parts, with the parts' names, where any of them is compressed.
  std::string_view fused = {};
};

// Names of modules, below which are .weight and .bias; empty: the family has none.
struct Architecture {
  std::string_view family;   // "llama"
  std::string_view classes;  // what transformers' classes of it begin with: "Llama"
  NormKind norm = NormKind::kRms;
  PositionKind position = PositionKind::kRotary;
  std::string_view layer_prefix = "model.layers.";  // then the layer's number and a dot
  std::string_view embedding = "model.embed_tokens";
  std::string_view positions = {};                     // kLearned
  std::string_view project_in = {}, project_out = {};  // where embedding_size is not hidden_size
  std::string_view final_norm = "model.norm";
  std::string_view head = "lm_head";  // absent where tied
  // Below the layer's prefix: in front of each half (behind it where config.norms_behind), between
  // a half and its residual sum, on each head of q and of k.
  std::string_view attn_norm = "input_layernorm", mlp_norm = "post_attention_layernorm";
  std::string_view attn_post_norm = {}, mlp_post_norm = {};
  std::string_view q_norm = {}, k_norm = {};
  std::span<const LinearRow> linears;

  bool gated() const { return linears.size() == kNumLinears; }
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
// Any module of a layer: "model.layers.3.input_layernorm".
std::string LayerPath(const Architecture& arch, int64_t layer, std::string_view module);

}  // namespace svdllm
