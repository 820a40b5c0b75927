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

// kRmsPlusOne is kRms with weights that are stored less 1. kLayer has a bias.
enum class NormKind { kRms, kRmsPlusOne, kLayer };
// kLearned positions are added to the embedding, from row kLearnedOffset of a table on.
enum class PositionKind { kRotary, kLearned };
inline constexpr int64_t kLearnedOffset = 2;

// The activation sites of a block that linears read. Each site has one Gram matrix.
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
  // The module that holds this linear's weight in a dense checkpoint, together with those of the
  // rows that have the same name here, in their order. Empty: it has a tensor of its own. In an
  // artifact the module is stored in parts, with the parts' names, where any of them is compressed.
  std::string_view fused = {};
};

// A family's row. The names are those of modules, below which are .weight and .bias. An empty name
// means that the family has no such module.
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
  // Norms below the layer's prefix: in front of each half (behind it where config.norms_behind),
  // between a half and its residual sum, and on each head of q and of k.
  std::string_view attn_norm = "input_layernorm", mlp_norm = "post_attention_layernorm";
  std::string_view attn_post_norm = {}, mlp_post_norm = {};
  std::string_view q_norm = {}, k_norm = {};
  std::span<const LinearRow> linears;

  bool gated() const { return linears.size() == kNumLinears; }
};

// Returns nullptr for an unknown family.
const Architecture* FindArchitecture(std::string_view family);
std::vector<std::string> KnownFamilies();

// The output and input features of a linear: W is [rows, cols].
struct LinearShape {
  int64_t rows = 0, cols = 0;
};
LinearShape ShapeOf(const ModelConfig& config, LinearId id);
bool HasBias(const ModelConfig& config, LinearId id);
// Returns the path of a linear: "model.layers.3.self_attn.q_proj".
std::string ModulePath(const Architecture& arch, int64_t layer, LinearId id);
// Returns the path of any module of a layer: "model.layers.3.input_layernorm".
std::string LayerPath(const Architecture& arch, int64_t layer, std::string_view module);

}  // namespace svdllm
