#include "checkpoint/architecture.h"

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

constexpr LinearRow kOptLinears[] = {
    {LinearId::kQ, "self_attn.q_proj", Site::kAttnIn},
    {LinearId::kK, "self_attn.k_proj", Site::kAttnIn},
    {LinearId::kV, "self_attn.v_proj", Site::kAttnIn},
    {LinearId::kO, "self_attn.out_proj", Site::kOIn},
    {LinearId::kUp, "fc1", Site::kMlpIn},
    {LinearId::kDown, "fc2", Site::kDownIn},
};

constexpr std::string_view kQkv = "self_attn.qkv_proj", kGateUp = "mlp.gate_up_proj";
constexpr LinearRow kPhi3Linears[] = {
    {LinearId::kQ, "self_attn.qkv_proj.q_proj", Site::kAttnIn, kQkv},
    {LinearId::kK, "self_attn.qkv_proj.k_proj", Site::kAttnIn, kQkv},
    {LinearId::kV, "self_attn.qkv_proj.v_proj", Site::kAttnIn, kQkv},
    {LinearId::kO, "self_attn.o_proj", Site::kOIn},
    {LinearId::kGate, "mlp.gate_up_proj.gate_proj", Site::kMlpIn, kGateUp},
    {LinearId::kUp, "mlp.gate_up_proj.up_proj", Site::kMlpIn, kGateUp},
    {LinearId::kDown, "mlp.down_proj", Site::kDownIn},
};

constexpr Architecture kArchitectures[] = {
    {.family = "llama", .classes = "Llama", .linears = kLlamaLinears},
    {.family = "mistral", .classes = "Mistral", .linears = kLlamaLinears},
    {.family = "opt",
     .classes = "OPT",
     .norm = NormKind::kLayer,
     .position = PositionKind::kLearned,
     .layer_prefix = "model.decoder.layers.",
     .embedding = "model.decoder.embed_tokens",
     .positions = "model.decoder.embed_positions",
     .project_in = "model.decoder.project_in",
     .project_out = "model.decoder.project_out",
     .final_norm = "model.decoder.final_layer_norm",
     .attn_norm = "self_attn_layer_norm",
     .mlp_norm = "final_layer_norm",
     .linears = kOptLinears},
    {.family = "qwen2", .classes = "Qwen2", .linears = kLlamaLinears},
    {.family = "qwen3",
     .classes = "Qwen3",
     .q_norm = "self_attn.q_norm",
     .k_norm = "self_attn.k_norm",
     .linears = kLlamaLinears},
    {.family = "gemma2",
     .classes = "Gemma2",
     .norm = NormKind::kRmsPlusOne,
     .mlp_norm = "pre_feedforward_layernorm",
     .attn_post_norm = "post_attention_layernorm",
     .mlp_post_norm = "post_feedforward_layernorm",
     .linears = kLlamaLinears},
    {.family = "gemma3_text",
     .classes = "Gemma3Text",
     .norm = NormKind::kRmsPlusOne,
     .mlp_norm = "pre_feedforward_layernorm",
     .attn_post_norm = "post_attention_layernorm",
     .mlp_post_norm = "post_feedforward_layernorm",
     .q_norm = "self_attn.q_norm",
     .k_norm = "self_attn.k_norm",
     .linears = kLlamaLinears},
    {.family = "phi3", .classes = "Phi3", .linears = kPhi3Linears},
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
      return config.attention_bias;
    case LinearId::kO:
      return config.output_bias;
    case LinearId::kGate:
    case LinearId::kUp:
    case LinearId::kDown:
      return config.mlp_bias;
  }
  return false;
}

std::string LayerPath(const Architecture& arch, int64_t layer, std::string_view module) {
  std::string path(arch.layer_prefix);
  path += std::to_string(layer);
  path += '.';
  path += module;
  return path;
}

std::string ModulePath(const Architecture& arch, int64_t layer, LinearId id) {
  for (const LinearRow& row : arch.linears) {
    if (row.id == id) return LayerPath(arch, layer, row.module);
  }
  return "";
}

}  // namespace svdllm
