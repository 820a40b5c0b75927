#include "checkpoint/parse_config.h"

#include <algorithm>
#include <map>

#include "base/json.h"
#include "checkpoint/architecture.h"
#include "checkpoint/config_reader.h"

namespace svdllm {
namespace {

using config::Corrupt;
using config::Dump;
using config::FamilyRow;
using config::json;
using config::kMaxWidth;
using config::Reader;
using config::Unsupported;

constexpr std::string_view kLowRankPrefix = "lowrank_";

absl::StatusOr<DType> ParseDType(std::string name) {
  if (name.rfind("torch.", 0) == 0) name.erase(0, 6);
  if (name == "float32" || name == "float") return DType::kF32;
  if (name == "float16" || name == "half") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  if (name == "float64" || name == "double") return DType::kF64;
  return Unsupported("torch_dtype", Printable(name) + " weights are not supported");
}

absl::StatusOr<Activation> ParseActivation(const FamilyRow& family, const std::string& name) {
  if (name == "silu" || name == "swish") return Activation::kSilu;
  if (name == "gelu") return Activation::kGelu;
  if (name == "gelu_pytorch_tanh" || name == "gelu_new") return Activation::kGeluTanh;
  if (name == "relu") return Activation::kRelu;
  return Unsupported(family.activation_key, Printable(name) + " is not supported");
}

absl::Status ParseSizes(Reader& reader, const FamilyRow& family, ModelConfig& config) {
  config.vocab_size = reader.Size("vocab_size", std::nullopt, config::kMaxVocab);
  config.hidden_size = config.embedding_size = reader.Size("hidden_size", std::nullopt, kMaxWidth);
  config.intermediate_size = reader.Size(family.intermediate_key, std::nullopt, kMaxWidth);
  config.num_layers = reader.Size("num_hidden_layers", std::nullopt, config::kMaxLayers);
  config.num_heads = reader.Size("num_attention_heads", std::nullopt, kMaxWidth);
  const bool own_heads = family.kv_heads == 0 || reader.IsNull("num_key_value_heads");
  config.num_kv_heads =
      reader.Size("num_key_value_heads", own_heads ? config.num_heads : family.kv_heads, kMaxWidth);
  const bool divides = family.head_dim == 0 || reader.IsNull("head_dim");
  config.head_dim = reader.Find("head_dim") == nullptr && divides
                        ? config.hidden_size / config.num_heads
                        : reader.Size("head_dim", family.head_dim, kMaxWidth);
  config.max_position_embeddings =
      reader.Size("max_position_embeddings", family.max_positions, config::kMaxPositions);
  config.norm_eps = family.norm_eps_key == nullptr
                        ? family.norm_eps
                        : reader.Positive(family.norm_eps_key, family.norm_eps);
  RETURN_IF_ERROR(reader.status());
  if (reader.Find("head_dim") == nullptr && divides && config.hidden_size % config.num_heads != 0) {
    return Corrupt("num_attention_heads", std::to_string(config.num_heads) +
                                              " does not divide hidden_size " +
                                              std::to_string(config.hidden_size));
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    return Corrupt("num_key_value_heads", std::to_string(config.num_kv_heads) +
                                              " does not divide num_attention_heads " +
                                              std::to_string(config.num_heads));
  }
  if (config.num_heads * config.head_dim > kMaxWidth) {
    return Corrupt("head_dim",
                   "num_attention_heads times head_dim exceeds " + std::to_string(kMaxWidth));
  }
  return absl::OkStatus();
}

absl::Status ParseLowRank(const json& root, ModelConfig& config) {
  Reader top(root);
  const bool expected = config.is_low_rank();
  const json* object = top.Find("low_rank_config");
  if (object == nullptr) {
    return expected ? Corrupt("low_rank_config", "missing") : absl::OkStatus();
  }
  if (!expected) {
    return Corrupt("low_rank_config", "given, but model_type is " + config.model_type + ", not " +
                                          std::string(kLowRankPrefix) + config.family);
  }
  if (!object->is_object()) return Corrupt("low_rank_config", Dump(*object) + " is not an object");
  Reader reader(*object, "low_rank_config.");
  const int64_t version = reader.Size("format_version", std::nullopt, 1 << 20);
  const std::string encoding = reader.String("encoding", std::nullopt);
  RETURN_IF_ERROR(reader.status());
  if (version != 1) {
    return Unsupported(reader.Path("format_version"),
                       std::to_string(version) + " is newer than what is supported (1)");
  }
  if (encoding != "plain" && encoding != "pivoted") {
    return Unsupported(reader.Path("encoding"),
                       Printable(encoding) + " is not supported (plain and pivoted are)");
  }
  config.pivoted = encoding == "pivoted";
  const json* modules = reader.Find("modules");
  if (modules == nullptr || !modules->is_object()) {
    return Corrupt(reader.Path("modules"), "missing or not an object");
  }

  const Architecture& arch = *FindArchitecture(config.family);
  std::map<std::string, LinearShape> shapes;
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    for (const LinearRow& row : arch.linears) {
      shapes[ModulePath(arch, layer, row.id)] = ShapeOf(config, row.id);
    }
  }
  for (const auto& [name, value] : modules->items()) {
    const std::string key = reader.Path("modules.") + Printable(name);
    const auto shape = shapes.find(name);
    if (shape == shapes.end()) return Corrupt(key, "no such linear layer in this model");
    if (!value.is_object()) return Corrupt(key, Dump(value) + " is not an object");
    Reader module(value, key + ".");
    const int64_t max_rank = std::min(shape->second.rows, shape->second.cols);
    const int64_t rank = module.Size("rank", std::nullopt, max_rank);
    RETURN_IF_ERROR(module.status());
    config.low_rank.push_back({.name = name, .rank = rank});
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& json_text) {
  absl::StatusOr<json> parsed = ParseJson(json_text);
  if (!parsed.ok()) {
    return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                     "config.json: " + std::string(parsed.status().message()));
  }
  const json& root = *parsed;
  if (!root.is_object()) {
    return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                     "config.json: not a JSON object");
  }

  ModelConfig config;
  Reader reader(root);
  config.model_type = reader.String("model_type", std::nullopt);
  RETURN_IF_ERROR(reader.status());
  config.family = config.model_type;
  if (config.family.rfind(kLowRankPrefix, 0) == 0) config.family.erase(0, kLowRankPrefix.size());
  if (FindArchitecture(config.family) == nullptr) {
    return Unsupported("model_type",
                       config.family == "gemma3"
                           ? "gemma3 is the multimodal model; give its text model by itself, whose "
                             "model_type is gemma3_text"
                           : Printable(config.model_type) + " is not supported");
  }
  RETURN_IF_ERROR(config::RefuseForeign(reader, config));
  const FamilyRow& family = config::FamilyRowOf(config.family);
  RETURN_IF_ERROR(ParseSizes(reader, family, config));
  ASSIGN_OR_RETURN(config.activation, ParseActivation(family, reader.String(family.activation_key,
                                                                            family.activation)));
  config.tie_word_embeddings = reader.Bool("tie_word_embeddings", family.tied);
  const std::string dtype = reader.String("dtype", reader.String("torch_dtype", "float32"));
  RETURN_IF_ERROR(reader.status());
  ASSIGN_OR_RETURN(config.dtype, ParseDType(dtype));
  config.needs_start = family.needs_start;
  family.read(reader, config);
  RETURN_IF_ERROR(reader.status());
  if (FindArchitecture(config.family)->position == PositionKind::kRotary) {
    if (config.head_dim % 2 != 0) {
      return Corrupt("head_dim", std::to_string(config.head_dim) + " is odd");
    }
    RETURN_IF_ERROR(config::ReadRope(root, config));
  }
  RETURN_IF_ERROR(ParseLowRank(root, config));
  return config;
}

}  // namespace svdllm
