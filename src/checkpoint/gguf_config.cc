#include "checkpoint/gguf_config.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/json.h"
#include "formats/gguf_quants.h"

namespace svdllm {
namespace {

using nlohmann::json;

constexpr int64_t kMost = int64_t{1} << 31;  // of anything that the configuration counts
constexpr int64_t kMostHeadDim = 1 << 16;

// A number, or an array that has the same one for every layer.
absl::StatusOr<std::optional<int64_t>> OneInt(const GgufFile& file, const std::string& key) {
  const auto it = file.metadata().find(key);
  if (it == file.metadata().end() || !std::holds_alternative<std::vector<int64_t>>(it->second)) {
    return file.Int(key);
  }
  const auto& values = std::get<std::vector<int64_t>>(it->second);
  if (values.empty()) return file.Corrupt(key + ": empty");
  if (std::any_of(values.begin(), values.end(), [&](int64_t v) { return v != values[0]; })) {
    return UnsupportedGguf(file, key + ": differs between layers");
  }
  return std::optional(values[0]);
}

absl::StatusOr<int64_t> Required(const GgufFile& file, const std::string& key) {
  ASSIGN_OR_RETURN(const auto value, OneInt(file, key));
  if (!value) return file.Corrupt(key + ": missing");
  if (*value <= 0 || *value > kMost) {
    return file.Corrupt(key + ": " + std::to_string(*value) + " is impossible");
  }
  return *value;
}

// What changes the arithmetic in ways that a LLaMA's config.json has no words for, and the value
// that changes nothing.
absl::Status RefuseForeign(const GgufFile& file) {
  constexpr std::pair<const char*, double> kForeign[] = {{"llama.expert_count", 0},
                                                         {"llama.attention.sliding_window", 0},
                                                         {"llama.attention.causal", 1},
                                                         {"llama.attention.scale", 0},
                                                         {"llama.attention.clamp_kqv", 0},
                                                         {"llama.attention.max_alibi_bias", 0},
                                                         {"llama.logit_scale", 0},
                                                         {"llama.residual_scale", 0},
                                                         {"llama.embedding_scale", 0},
                                                         {"llama.use_parallel_residual", 0},
                                                         {"llama.attn_logit_softcapping", 0},
                                                         {"llama.final_logit_softcapping", 0}};
  for (const auto& [key, neutral] : kForeign) {
    ASSIGN_OR_RETURN(const auto value, file.Double(key));
    if (value && *value != neutral) {
      return UnsupportedGguf(file, std::string(key) + ": not supported in GGUF files");
    }
  }
  return absl::OkStatus();
}

struct Rope {
  int64_t dim = 0;
  double theta = 10000;
};

// What LLaMA 3's scaling divides the frequency of pair i by.
double Llama3Factor(const Rope& rope, double factor, double original, size_t i) {
  constexpr double kLow = 1, kHigh = 4;
  const double wavelength =
      2 * M_PI * std::pow(rope.theta, 2 * static_cast<double>(i) / static_cast<double>(rope.dim));
  if (wavelength < original / kHigh) return 1;
  if (wavelength > original / kLow) return factor;
  const double smooth = (original / wavelength - kLow) / (kHigh - kLow);
  return 1 / ((1 - smooth) / factor + smooth);
}

// The file has the factors; config.json wants what they were made from, which is one of few.
absl::StatusOr<json> RecoverLlama3(const GgufFile& file, const GgufTensor& tensor,
                                   const Rope& rope) {
  const std::string name = kGgufRopeFactors;
  const auto pairs = static_cast<size_t>(rope.dim / 2);
  if (tensor.type != FindGgmlType(0)->number || tensor.bytes.size() != pairs * sizeof(float)) {
    return file.Corrupt(name + ": not F32, or not one for each pair of a head's elements");
  }
  std::vector<float> factors(pairs);
  std::memcpy(factors.data(), tensor.bytes.data(), tensor.bytes.size());
  const double factor = *std::max_element(factors.begin(), factors.end());
  if (std::all_of(factors.begin(), factors.end(), [](float f) { return f == 1; })) return json();
  for (int64_t original = 1024; original <= 1 << 20; original *= 2) {
    bool equal = true;
    for (size_t i = 0; i < pairs && equal; ++i) {
      const double expected = Llama3Factor(rope, factor, static_cast<double>(original), i);
      equal = std::abs(static_cast<double>(factors[i]) - expected) <= 1e-5 * expected;
    }
    if (!equal) continue;
    return json{{"rope_type", "llama3"},
                {"factor", factor},
                {"low_freq_factor", 1.0},
                {"high_freq_factor", 4.0},
                {"original_max_position_embeddings", original}};
  }
  return UnsupportedGguf(file, name + ": not the factors of a llama3 scaling");
}

// null: frequencies are not scaled.
absl::StatusOr<json> RopeScaling(const GgufFile& file, const Rope& rope) {
  const auto tensor = file.tensors().find(kGgufRopeFactors);
  if (tensor != file.tensors().end()) return RecoverLlama3(file, tensor->second, rope);
  ASSIGN_OR_RETURN(const auto type, file.String("llama.rope.scaling.type"));
  ASSIGN_OR_RETURN(std::optional<double> factor, file.Double("llama.rope.scaling.factor"));
  ASSIGN_OR_RETURN(const auto old_factor, file.Double("llama.rope.scale_linear"));
  if (!factor) factor = old_factor;
  if (type && *type != "none" && *type != "linear") {
    return UnsupportedGguf(file, "llama.rope.scaling.type: " + Printable(*type));
  }
  if (type == "none" || !factor || *factor == 0 || *factor == 1) return json();
  return json{{"rope_type", "linear"}, {"factor", *factor}};
}

absl::StatusOr<int64_t> VocabSize(const GgufFile& file) {
  const auto embedding = file.tensors().find("token_embd.weight");
  if (embedding == file.tensors().end() || embedding->second.shape.empty()) {
    return file.Corrupt("token_embd.weight: missing");
  }
  return embedding->second.shape[0];
}

// The type that most of the model has.
const char* StoredType(const GgufFile& file) {
  const auto it = file.tensors().find("blk.0.attn_q.weight");
  if (it == file.tensors().end()) return "float16";
  const GgmlType* type = FindGgmlType(it->second.type);
  const std::string_view name = type == nullptr ? "" : type->name;
  return name == "F32" ? "float32" : name == "BF16" ? "bfloat16" : "float16";
}

}  // namespace

absl::Status UnsupportedGguf(const GgufFile& file, const std::string& what) {
  return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedArchitecture,
                   file.path() + ": " + what);
}

absl::StatusOr<int64_t> GgufHeads(const GgufFile& file, bool of_keys) {
  if (of_keys) {
    ASSIGN_OR_RETURN(const auto keys, OneInt(file, "llama.attention.head_count_kv"));
    if (keys) return Required(file, "llama.attention.head_count_kv");
  }
  return Required(file, "llama.attention.head_count");
}

absl::StatusOr<std::string> GgufConfigText(const GgufFile& file) {
  RETURN_IF_ERROR(RefuseForeign(file));
  json config = {{"architectures", {"LlamaForCausalLM"}},
                 {"model_type", "llama"},
                 {"hidden_act", "silu"},
                 {"torch_dtype", StoredType(file)}};
  ASSIGN_OR_RETURN(config["vocab_size"], VocabSize(file));
  ASSIGN_OR_RETURN(const int64_t hidden, Required(file, "llama.embedding_length"));
  ASSIGN_OR_RETURN(const int64_t heads, GgufHeads(file, /*of_keys=*/false));
  config["hidden_size"] = hidden;
  config["num_attention_heads"] = heads;
  ASSIGN_OR_RETURN(config["num_key_value_heads"], GgufHeads(file, /*of_keys=*/true));
  ASSIGN_OR_RETURN(config["num_hidden_layers"], Required(file, "llama.block_count"));
  ASSIGN_OR_RETURN(config["intermediate_size"], Required(file, "llama.feed_forward_length"));
  ASSIGN_OR_RETURN(config["max_position_embeddings"], Required(file, "llama.context_length"));

  Rope rope;
  ASSIGN_OR_RETURN(const auto key_length, OneInt(file, "llama.attention.key_length"));
  ASSIGN_OR_RETURN(const auto value_length, OneInt(file, "llama.attention.value_length"));
  ASSIGN_OR_RETURN(const auto turned, OneInt(file, "llama.rope.dimension_count"));
  ASSIGN_OR_RETURN(const auto theta, file.Double("llama.rope.freq_base"));
  const int64_t head_dim = key_length.value_or(hidden / heads);
  if (head_dim <= 0 || head_dim > kMostHeadDim || head_dim % 2 != 0) {
    return file.Corrupt("llama.attention.key_length: heads of " + std::to_string(head_dim));
  }
  for (const auto& [key, length] : {std::pair("llama.attention.value_length", value_length),
                                    std::pair("llama.rope.dimension_count", turned)}) {
    if (length && *length != head_dim) {
      return UnsupportedGguf(file, std::string(key) + ": " + std::to_string(*length) +
                                       " differs from the keys' " + std::to_string(head_dim));
    }
  }
  rope.dim = head_dim;
  rope.theta = theta.value_or(rope.theta);
  config["head_dim"] = head_dim;
  if (!std::isfinite(rope.theta) || rope.theta <= 0) {
    return file.Corrupt("llama.rope.freq_base: not a positive number");
  }
  config["rope_theta"] = rope.theta;
  ASSIGN_OR_RETURN(config["rope_scaling"], RopeScaling(file, rope));

  ASSIGN_OR_RETURN(const auto eps, file.Double("llama.attention.layer_norm_rms_epsilon"));
  if (!eps) return file.Corrupt("llama.attention.layer_norm_rms_epsilon: missing");
  if (!std::isfinite(*eps) || *eps <= 0) {
    return file.Corrupt("llama.attention.layer_norm_rms_epsilon: not a positive number");
  }
  config["rms_norm_eps"] = *eps;
  config["tie_word_embeddings"] = file.tensors().count("output.weight") == 0;
  config["attention_bias"] = file.tensors().count("blk.0.attn_q.bias") > 0;
  config["mlp_bias"] = file.tensors().count("blk.0.ffn_gate.bias") > 0;
  for (const auto& [name, key] : {std::pair("bos_token_id", "tokenizer.ggml.bos_token_id"),
                                  std::pair("eos_token_id", "tokenizer.ggml.eos_token_id"),
                                  std::pair("pad_token_id", "tokenizer.ggml.padding_token_id")}) {
    ASSIGN_OR_RETURN(const auto id, file.Int(key));
    config[name] = id ? json(*id) : json();
  }
  return config.dump(2) + "\n";
}

}  // namespace svdllm
