#include "model/config.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "model/architecture.h"
#include "model/json_text.h"

namespace svdllm {
namespace {

using nlohmann::json;

constexpr std::string_view kLowRankPrefix = "lowrank_";
// Far beyond any model, and small enough that products of three never overflow.
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxVocab = int64_t{1} << 24;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxPositions = int64_t{1} << 31;

absl::Status Corrupt(std::string_view key, std::string_view what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                   "config.json: " + std::string(key) + ": " + std::string(what));
}

absl::Status Unsupported(std::string_view key, std::string_view what) {
  std::string families;
  for (const std::string& family : KnownFamilies()) {
    families += (families.empty() ? "" : ", ") + family;
  }
  return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedArchitecture,
                   "config.json: " + std::string(key) + ": " + std::string(what) +
                       "; supported families: " + families);
}

std::string Dump(const json& value) {
  return Printable(value.dump(-1, ' ', true, json::error_handler_t::replace));
}

// The values of one object, each checked. A null counts as absent, as Hugging Face writes it. The
// first error stays; values read after it are defaults.
class Reader {
 public:
  explicit Reader(const json& object, std::string prefix = "")
      : object_(object), prefix_(std::move(prefix)) {}

  const json* Find(const char* key) const {
    const auto it = object_.find(key);
    return it == object_.end() || it->is_null() ? nullptr : &*it;
  }

  int64_t Size(const char* key, std::optional<int64_t> fallback, int64_t max) {
    const json* value = Get(key, fallback.has_value());
    if (value == nullptr) return fallback.value_or(1);
    if (!value->is_number_integer()) return Wrong(key, *value, "is not an integer"), 1;
    // An unsigned value past int64's range reads as negative.
    const int64_t number = value->get<int64_t>();
    if (number <= 0 || number > max) {
      return Wrong(key, *value, "is not between 1 and " + std::to_string(max)), 1;
    }
    return number;
  }

  double Positive(const char* key, std::optional<double> fallback) {
    const json* value = Get(key, fallback.has_value());
    if (value == nullptr) return fallback.value_or(1);
    if (!value->is_number()) return Wrong(key, *value, "is not a number"), 1;
    const double number = value->get<double>();
    if (!std::isfinite(number) || number <= 0) {
      return Wrong(key, *value, "is not a positive number"), 1;
    }
    return number;
  }

  bool Bool(const char* key, bool fallback) {
    const json* value = Get(key, true);
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) return Wrong(key, *value, "is not true or false"), fallback;
    return value->get<bool>();
  }

  std::string String(const char* key, std::optional<std::string> fallback) {
    const json* value = Get(key, fallback.has_value());
    if (value == nullptr) return fallback.value_or("");
    if (!value->is_string()) return Wrong(key, *value, "is not a string"), "";
    return value->get<std::string>();
  }

  std::string Path(const char* key) const { return prefix_ + key; }
  const absl::Status& status() const { return status_; }

 private:
  const json* Get(const char* key, bool optional) {
    const json* value = Find(key);
    if (value == nullptr && !optional) Keep(Corrupt(Path(key), "missing"));
    return value;
  }
  void Wrong(const char* key, const json& value, const std::string& what) {
    Keep(Corrupt(Path(key), Dump(value) + " " + what));
  }
  void Keep(absl::Status status) {
    if (status_.ok()) status_ = std::move(status);
  }

  const json& object_;
  std::string prefix_;
  absl::Status status_;
};

absl::StatusOr<DType> ParseDType(std::string name) {
  if (name.rfind("torch.", 0) == 0) name.erase(0, 6);
  if (name == "float32" || name == "float") return DType::kF32;
  if (name == "float16" || name == "half") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  if (name == "float64" || name == "double") return DType::kF64;
  return Unsupported("torch_dtype", Printable(name) + " weights are not supported");
}

// Keys that change the arithmetic of the family, and the values that leave it as it is.
absl::Status RefuseOtherArithmetic(const json& root) {
  const auto set = [&root](const char* key) -> const json* {
    const auto it = root.find(key);
    return it == root.end() || it->is_null() || *it == false ? nullptr : &*it;
  };
  if (set("quantization_config") != nullptr) {
    return Unsupported("quantization_config",
                       "quantised checkpoints are not supported, give the original weights");
  }
  for (const char* key : {"sliding_window", "use_sliding_window"}) {
    if (const json* value = set(key)) {
      return Unsupported(key, Dump(*value) + ": sliding windows are not supported");
    }
  }
  if (const json* value = set("partial_rotary_factor"); value != nullptr && *value != 1.0) {
    return Unsupported("partial_rotary_factor", Dump(*value) + " is not supported");
  }
  if (const json* types = set("layer_types")) {
    if (!types->is_array()) return Corrupt("layer_types", Dump(*types) + " is not a list");
    for (const json& type : *types) {
      if (type != "full_attention") {
        return Unsupported("layer_types", Dump(type) + " is not supported");
      }
    }
  }
  return absl::OkStatus();
}

// rope_scaling (theta beside it) is the older form, rope_parameters (theta inside) transformers
// 5's.
absl::StatusOr<RopeConfig> ParseRope(const json& root) {
  Reader top(root);
  RopeConfig rope;
  rope.theta = top.Positive("rope_theta", rope.theta);
  RETURN_IF_ERROR(top.status());

  const bool is_scaling = top.Find("rope_scaling") != nullptr;
  const char* key = is_scaling ? "rope_scaling" : "rope_parameters";
  const json* object = top.Find(key);
  if (object == nullptr) return rope;
  if (!object->is_object()) return Corrupt(key, Dump(*object) + " is not an object");
  for (const auto& [name, value] : object->items()) {
    if (value.is_object()) {
      return Unsupported(key, Printable(name) +
                                  ": parameters for each kind of layer are not "
                                  "supported");
    }
  }

  Reader reader(*object, std::string(key) + ".");
  const double theta = reader.Positive("rope_theta", rope.theta);
  if (theta != rope.theta && top.Find("rope_theta") != nullptr) {
    return Corrupt(reader.Path("rope_theta"), "differs from rope_theta");
  }
  rope.theta = theta;
  std::optional<std::string> fallback;
  if (reader.Find("type") != nullptr) fallback = reader.String("type", std::nullopt);
  if (!is_scaling && !fallback.has_value()) fallback = "default";
  const std::string type = reader.String("rope_type", fallback);
  RETURN_IF_ERROR(reader.status());

  if (const json* part = reader.Find("partial_rotary_factor"); part != nullptr && *part != 1.0) {
    return Unsupported(reader.Path("partial_rotary_factor"), Dump(*part) + " is not supported");
  }
  if (type == "default") return rope;
  if (type == "linear") {
    rope.kind = RopeKind::kLinear;
  } else if (type == "dynamic") {
    rope.kind = RopeKind::kDynamic;
  } else if (type == "llama3") {
    rope.kind = RopeKind::kLlama3;
  } else {
    return Unsupported(
        reader.Path("rope_type"),
        Printable(type) + " is not supported (default, linear, dynamic, llama3 are)");
  }
  rope.factor = reader.Positive("factor", std::nullopt);
  const bool is_llama3 = rope.kind == RopeKind::kLlama3;
  if (is_llama3 || reader.Find("original_max_position_embeddings") != nullptr) {
    rope.original_max_position_embeddings =
        reader.Size("original_max_position_embeddings", std::nullopt, kMaxPositions);
  }
  if (is_llama3) {
    rope.low_freq_factor = reader.Positive("low_freq_factor", std::nullopt);
    rope.high_freq_factor = reader.Positive("high_freq_factor", std::nullopt);
  }
  RETURN_IF_ERROR(reader.status());
  if (is_llama3 && rope.high_freq_factor <= rope.low_freq_factor) {
    return Corrupt(reader.Path("high_freq_factor"), "is not above low_freq_factor");
  }
  return rope;
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
    return Unsupported("model_type", Printable(config.model_type) + " is not supported");
  }
  RETURN_IF_ERROR(RefuseOtherArithmetic(root));

  config.vocab_size = reader.Size("vocab_size", std::nullopt, kMaxVocab);
  config.hidden_size = reader.Size("hidden_size", std::nullopt, kMaxWidth);
  config.intermediate_size = reader.Size("intermediate_size", std::nullopt, kMaxWidth);
  config.num_layers = reader.Size("num_hidden_layers", std::nullopt, kMaxLayers);
  config.num_heads = reader.Size("num_attention_heads", std::nullopt, kMaxWidth);
  config.num_kv_heads = reader.Size("num_key_value_heads", config.num_heads, kMaxWidth);
  config.head_dim = reader.Find("head_dim") != nullptr
                        ? reader.Size("head_dim", std::nullopt, kMaxWidth)
                        : config.hidden_size / config.num_heads;
  config.max_position_embeddings =
      reader.Size("max_position_embeddings", config.max_position_embeddings, kMaxPositions);
  config.norm_eps = reader.Positive("rms_norm_eps", config.norm_eps);
  config.hidden_act = reader.String("hidden_act", config.hidden_act);
  config.attention_bias = reader.Bool("attention_bias", config.attention_bias);
  config.mlp_bias = reader.Bool("mlp_bias", config.mlp_bias);
  config.tie_word_embeddings = reader.Bool("tie_word_embeddings", config.tie_word_embeddings);
  const std::string dtype = reader.String("dtype", reader.String("torch_dtype", "float32"));
  RETURN_IF_ERROR(reader.status());

  if (reader.Find("head_dim") == nullptr && config.hidden_size % config.num_heads != 0) {
    return Corrupt("num_attention_heads", std::to_string(config.num_heads) +
                                              " does not divide hidden_size " +
                                              std::to_string(config.hidden_size));
  }
  if (config.num_heads % config.num_kv_heads != 0) {
    return Corrupt("num_key_value_heads", std::to_string(config.num_kv_heads) +
                                              " does not divide num_attention_heads " +
                                              std::to_string(config.num_heads));
  }
  if (config.head_dim % 2 != 0) {
    return Corrupt("head_dim", std::to_string(config.head_dim) + " is odd");
  }
  if (config.num_heads * config.head_dim > kMaxWidth) {
    return Corrupt("head_dim",
                   "num_attention_heads times head_dim exceeds " + std::to_string(kMaxWidth));
  }
  if (config.hidden_act == "swish") config.hidden_act = "silu";  // two names of one function
  if (config.hidden_act != "silu") {
    return Unsupported("hidden_act", Printable(config.hidden_act) + " is not supported");
  }
  ASSIGN_OR_RETURN(config.dtype, ParseDType(dtype));
  ASSIGN_OR_RETURN(config.rope, ParseRope(root));
  RETURN_IF_ERROR(ParseLowRank(root, config));
  return config;
}

}  // namespace svdllm
