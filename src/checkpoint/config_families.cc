// What each family's configuration has beside what all have.
#include <algorithm>
#include <cmath>
#include <utility>

#include "checkpoint/config_reader.h"

namespace svdllm::config {
namespace {

// Sliding windows. `by_default` says which layers have one where layer_types does not;
// follows_types: whether the family goes by layer_types at all.
void ReadWindows(Reader& root, ModelConfig& config, int64_t window, bool follows_types,
                 const std::function<bool(int64_t)>& by_default) {
  config.sliding_window = window;
  std::vector<bool> slides;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) slides.push_back(by_default(layer));
  if (const json* types = root.Find("layer_types")) {
    if (!types->is_array() || types->size() != slides.size()) {
      return root.Keep(Corrupt("layer_types", Dump(*types) + " is not a list of " +
                                                  std::to_string(config.num_layers) + " kinds"));
    }
    for (size_t layer = 0; layer < slides.size(); ++layer) {
      const json& type = (*types)[layer];
      const std::string name = type.is_string() ? type.get<std::string>() : "";
      if (name != "full_attention" && name != "sliding_attention") {
        return root.Keep(Unsupported("layer_types", Dump(type) + " is not supported"));
      }
      const bool slide = name == "sliding_attention";
      if (!follows_types && slide != slides[layer]) {
        return root.Keep(Unsupported(
            "layer_types", Dump(type) + " is not supported in " + config.family + " models" +
                               (slide ? " without" : " with") + " a sliding window"));
      }
      slides[layer] = slide;
    }
  }
  if (std::find(slides.begin(), slides.end(), true) == slides.end()) return;
  if (window == 0)
    return root.Keep(Corrupt("sliding_window", "missing, but there are layers that slide"));
  config.sliding_layers = std::move(slides);
}

// sliding_window: absent is the family's, null is none.
int64_t Window(Reader& root, int64_t absent) {
  if (root.IsNull("sliding_window")) return 0;
  if (root.Find("sliding_window") == nullptr) return absent;
  return root.Size("sliding_window", std::nullopt, kMaxPositions);
}

// Keys by which a file of one family asks for something that only others have.
void RefuseWindows(Reader& root, ModelConfig& config) {
  for (const char* key : {"sliding_window", "use_sliding_window"}) {
    const json* value = root.Find(key);
    if (value != nullptr && *value != false) {
      root.Keep(Unsupported(key, Dump(*value) + ": sliding windows are not supported in " +
                                     config.family + " models"));
    }
  }
  ReadWindows(root, config, 0, false, [](int64_t) { return false; });
}

void Llama(Reader& root, ModelConfig& config) {
  RefuseWindows(root, config);
  config.attention_bias = config.output_bias = root.Bool("attention_bias", false);
  config.mlp_bias = root.Bool("mlp_bias", false);
}

void SlideAll(Reader& root, ModelConfig& config, int64_t window) {
  ReadWindows(root, config, window, false, [window](int64_t) { return window > 0; });
}

void Mistral(Reader& root, ModelConfig& config) { SlideAll(root, config, Window(root, 4096)); }
void Phi3(Reader& root, ModelConfig& config) { SlideAll(root, config, Window(root, 0)); }

void Opt(Reader& root, ModelConfig& config) {
  RefuseWindows(root, config);
  for (const char* key : {"enable_bias", "layer_norm_elementwise_affine"}) {
    if (!root.Bool(key, true)) root.Keep(Unsupported(key, "false is not supported"));
  }
  // OPT has neither grouped queries nor heads of any other size, whatever a file may say.
  config.num_kv_heads = config.num_heads;
  config.head_dim = config.hidden_size / config.num_heads;
  if (config.head_dim * config.num_heads != config.hidden_size) {
    root.Keep(Corrupt("num_attention_heads", std::to_string(config.num_heads) +
                                                 " does not divide hidden_size " +
                                                 std::to_string(config.hidden_size)));
  }
  config.attention_bias = config.output_bias = config.mlp_bias = true;
  config.embedding_size = root.Size("word_embed_proj_dim", config.hidden_size, kMaxWidth);
  config.norms_behind = !root.Bool("do_layer_norm_before", true);
  config.final_norm = !config.norms_behind && !root.Bool("_remove_final_layer_norm", false);
}

// The layers from max_window_layers on slide.
void SlideAbove(Reader& root, ModelConfig& config) {
  const int64_t window = root.Bool("use_sliding_window", false) ? Window(root, 4096) : 0;
  int64_t first = 28;
  if (const json* given = root.Find("max_window_layers"); given == nullptr || *given != 0) {
    first = root.Size("max_window_layers", first, kMaxLayers);
  } else {
    first = 0;
  }
  ReadWindows(root, config, window, true,
              [=](int64_t layer) { return window > 0 && layer >= first; });
}

void Qwen2(Reader& root, ModelConfig& config) {
  config.attention_bias = true;
  SlideAbove(root, config);
}

void Qwen3(Reader& root, ModelConfig& config) {
  config.attention_bias = config.output_bias = root.Bool("attention_bias", false);
  SlideAbove(root, config);
}

// A soft-cap: absent is the family's, null is none.
double Cap(Reader& root, const char* key, double absent) {
  if (root.IsNull(key)) return 0;
  if (root.Find(key) == nullptr) return absent;
  return root.Positive(key, std::nullopt);
}

void Gemma(Reader& root, ModelConfig& config) {
  if (root.Bool("use_bidirectional_attention", false)) {
    root.Keep(Unsupported("use_bidirectional_attention", "true is not supported"));
  }
  config.attention_bias = config.output_bias = root.Bool("attention_bias", false);
  config.embedding_scale = std::sqrt(static_cast<double>(config.hidden_size));
  config.attention_scale = 1 / std::sqrt(root.Positive("query_pre_attn_scalar", 256));
}

void Gemma2(Reader& root, ModelConfig& config) {
  Gemma(root, config);
  config.attention_softcap = Cap(root, "attn_logit_softcapping", 50);
  config.logit_softcap = Cap(root, "final_logit_softcapping", 30);
  ReadWindows(root, config, Window(root, 4096), true, [](int64_t layer) { return layer % 2 == 0; });
}

void Gemma3(Reader& root, ModelConfig& config) {
  Gemma(root, config);
  // transformers leaves it out of the computation; nobody can say which of both is meant.
  if (const json* cap = root.Find("attn_logit_softcapping")) {
    root.Keep(Unsupported("attn_logit_softcapping", Dump(*cap) + " is not supported"));
  }
  config.logit_softcap = Cap(root, "final_logit_softcapping", 0);
  const int64_t pattern = root.Size("sliding_window_pattern", 6, kMaxLayers);
  ReadWindows(root, config, Window(root, 4096), true,
              [pattern](int64_t layer) { return (layer + 1) % pattern != 0; });
}

constexpr char kGeluTanh[] = "gelu_pytorch_tanh";
const FamilyRow kFamilies[] = {
    {.family = "llama", .read = Llama},
    {.family = "mistral", .kv_heads = 8, .max_positions = 131072, .read = Mistral},
    {.family = "opt",
     .norm_eps = 1e-5,
     .norm_eps_key = nullptr,  // torch's own
     .tied = true,
     .intermediate_key = "ffn_dim",
     .activation_key = "activation_function",
     .activation = "relu",
     .read = Opt},
    {.family = "qwen2", .kv_heads = 32, .max_positions = 32768, .read = Qwen2},
    {.family = "qwen3", .kv_heads = 32, .head_dim = 128, .max_positions = 32768, .read = Qwen3},
    {.family = "gemma2",
     .kv_heads = 4,
     .head_dim = 256,
     .max_positions = 8192,
     .tied = true,
     .activation_key = "hidden_activation",
     .activation = kGeluTanh,
     .needs_start = true,
     .read = Gemma2},
    {.family = "gemma3_text",
     .kv_heads = 4,
     .head_dim = 256,
     .max_positions = 131072,
     .tied = true,
     .activation_key = "hidden_activation",
     .activation = kGeluTanh,
     .needs_start = true,
     .read = Gemma3},
    {.family = "phi3", .max_positions = 4096, .norm_eps = 1e-5, .read = Phi3},
};

}  // namespace

const FamilyRow& FamilyRowOf(std::string_view family) {
  for (const FamilyRow& row : kFamilies) {
    if (row.family == family) return row;
  }
  return kFamilies[0];
}

}  // namespace svdllm::config
