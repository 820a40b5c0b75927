#include "model/architecture.h"

namespace svdllm {
namespace {

constexpr LinearRow kLlamaLinears[] = {
    {LinearId::kQ, "self_attn.q_proj", Site::kAttnIn},
    {LinearId::kK, "self_attn.k_proj", Site::kAttnIn},
    {LinearId::kV, "self_attn.v_proj", Site::kAttnIn},
    {LinearId::kO, "self_attn.o_proj", Site::kOIn},
    {LinearId::kGate, "mlp.gate_proj", Site::kMlpIn},
    {LinearId::kUp, "mlp.up_proj", Site::kMlpIn},
    {LinearId::kDown, "mlp.down_proj", Site::kDownIn},
};

constexpr Architecture kArchitectures[] = {
    {.family = "llama",
     .norm = NormKind::kRmsNorm,
     .position = PositionKind::kRope,
     .mlp = MlpKind::kGatedSilu,
     .layer_prefix = "model.layers.",
     .embedding = "model.embed_tokens.weight",
     .final_norm = "model.norm.weight",
     .head = "lm_head.weight",
     .attn_norm = "input_layernorm.weight",
     .mlp_norm = "post_attention_layernorm.weight",
     .linears = kLlamaLinears},
};

}  // namespace

std::string_view SiteName(Site site) {
  switch (site) {
    case Site::kAttnIn:
      return "attn_in";
    case Site::kOIn:
      return "o_in";
    case Site::kMlpIn:
      return "mlp_in";
    case Site::kDownIn:
      return "down_in";
  }
  return "?";
}

const Architecture* FindArchitecture(std::string_view family) {
  for (const Architecture& arch : kArchitectures) {
    if (arch.family == family) return &arch;
  }
  return nullptr;
}

std::vector<std::string> KnownFamilies() {
  std::vector<std::string> families;
  for (const Architecture& arch : kArchitectures) families.emplace_back(arch.family);
  return families;
}

LinearShape ShapeOf(const ModelConfig& config, LinearId id) {
  const int64_t hidden = config.hidden_size;
  const int64_t q_width = config.num_heads * config.head_dim;
  const int64_t kv_width = config.num_kv_heads * config.head_dim;
  switch (id) {
    case LinearId::kQ:
      return {q_width, hidden};
    case LinearId::kK:
    case LinearId::kV:
      return {kv_width, hidden};
    case LinearId::kO:
      return {hidden, q_width};
    case LinearId::kGate:
    case LinearId::kUp:
      return {config.intermediate_size, hidden};
    case LinearId::kDown:
      return {hidden, config.intermediate_size};
  }
  return {};
}

bool HasBias(const ModelConfig& config, LinearId id) {
  switch (id) {
    case LinearId::kQ:
    case LinearId::kK:
    case LinearId::kV:
    case LinearId::kO:
      return config.attention_bias;
    case LinearId::kGate:
    case LinearId::kUp:
    case LinearId::kDown:
      return config.mlp_bias;
  }
  return false;
}

std::string ModulePath(const Architecture& arch, int64_t layer, LinearId id) {
  std::string path(arch.layer_prefix);
  path += std::to_string(layer);
  path += '.';
  for (const LinearRow& row : arch.linears) {
    if (row.id == id) path += row.module;
  }
  return path;
}

}  // namespace svdllm
