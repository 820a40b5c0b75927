#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "checkpoint/config_reader.h"

namespace svdllm::config {
namespace {

absl::StatusOr<RopeKind> KindOf(const Reader& reader, std::string type, const std::string& family) {
  // What Phi-3's configurations were first written with.
  if (family == "phi3" && (type == "su" || type == "yarn")) type = "longrope";
  if (type == "default") return RopeKind::kDefault;
  if (type == "linear") return RopeKind::kLinear;
  if (type == "dynamic") return RopeKind::kDynamic;
  if (type == "llama3") return RopeKind::kLlama3;
  if (type == "longrope") return RopeKind::kLongRope;
  return Unsupported(
      reader.Path("rope_type"),
      Printable(type) + " is not supported (default, linear, dynamic, llama3, longrope are)");
}

// The length that scaling starts from. What stands beside the parameters goes before what is in
// them, as in transformers; Phi-3 always has it beside them.
int64_t OriginalPositions(Reader& reader, Reader& top, RopeKind kind, const ModelConfig& config) {
  constexpr char kKey[] = "original_max_position_embeddings";
  if (kind == RopeKind::kDynamic) {
    // transformers scales from max_position_embeddings on, whatever this key says.
    const int64_t given = reader.Size(kKey, config.max_position_embeddings, kMaxPositions);
    if (given != config.max_position_embeddings) {
      reader.Keep(Unsupported(reader.Path(kKey), std::to_string(given) +
                                                     " is not max_position_embeddings, which "
                                                     "dynamic scaling begins at"));
    }
    return config.max_position_embeddings;
  }
  if (top.Find(kKey) != nullptr) return top.Size(kKey, std::nullopt, kMaxPositions);
  if (config.family == "phi3") return 4096;
  if (kind == RopeKind::kLlama3) return reader.Size(kKey, std::nullopt, kMaxPositions);
  return reader.Size(kKey, config.max_position_embeddings, kMaxPositions);
}

void ReadLongRope(Reader& reader, const ModelConfig& config, RopeConfig& rope) {
  rope.short_factor = reader.Positives("short_factor", rope.dim / 2);
  rope.long_factor = reader.Positives("long_factor", rope.dim / 2);
  const auto original = static_cast<double>(rope.original_max_position_embeddings);
  rope.factor =
      reader.Positive("factor", static_cast<double>(config.max_position_embeddings) / original);
  const double attention_factor = rope.factor <= 1 || original <= 1
                                      ? 1
                                      : std::sqrt(1 + std::log(rope.factor) / std::log(original));
  rope.attention_factor = reader.Positive("attention_factor", attention_factor);
}

// One set of parameters. In the older form, rope_scaling, theta stands beside it; in the newer,
// rope_parameters, inside.
absl::StatusOr<RopeConfig> ReadParameters(const json& root, const json& object,
                                          const std::string& path, bool is_scaling, double theta,
                                          const ModelConfig& config) {
  if (!object.is_object()) return Corrupt(path, Dump(object) + " is not an object");
  Reader top(root), reader(object, path + ".");
  RopeConfig rope;
  rope.theta = reader.Positive("rope_theta", theta);
  std::optional<std::string> type;
  if (reader.Find("type") != nullptr) type = reader.String("type", std::nullopt);
  if (!is_scaling && !type.has_value()) type = "default";
  type = reader.String("rope_type", type);
  RETURN_IF_ERROR(reader.status());
  ASSIGN_OR_RETURN(rope.kind, KindOf(reader, *type, config.family));

  rope.dim = config.head_dim;
  for (Reader* part : {&reader, &top}) {
    if (part->Find("partial_rotary_factor") == nullptr) continue;
    const double share = part->Positive("partial_rotary_factor", std::nullopt);
    RETURN_IF_ERROR(part->status());
    if (share != 1 && config.family != "phi3") {
      return Unsupported(part->Path("partial_rotary_factor"),
                         Dump(*part->Find("partial_rotary_factor")) + " is not supported");
    }
    rope.dim = static_cast<int64_t>(static_cast<double>(config.head_dim) * std::min(share, 1.0));
    if (share > 1 || rope.dim < 2 || rope.dim % 2 != 0) {
      return Corrupt(part->Path("partial_rotary_factor"),
                     Dump(*part->Find("partial_rotary_factor")) + " of head_dim " +
                         std::to_string(config.head_dim) + " is not an even number of elements");
    }
    break;
  }
  if (rope.kind == RopeKind::kDefault) return rope;
  if (rope.kind != RopeKind::kLongRope) rope.factor = reader.Positive("factor", std::nullopt);
  if (rope.kind != RopeKind::kLinear) {
    rope.original_max_position_embeddings = OriginalPositions(reader, top, rope.kind, config);
  }
  if (rope.kind == RopeKind::kLongRope) ReadLongRope(reader, config, rope);
  if (rope.kind == RopeKind::kLlama3) {
    rope.low_freq_factor = reader.Positive("low_freq_factor", std::nullopt);
    rope.high_freq_factor = reader.Positive("high_freq_factor", std::nullopt);
  }
  RETURN_IF_ERROR(reader.status());
  RETURN_IF_ERROR(top.status());
  if (rope.kind == RopeKind::kLlama3 && rope.high_freq_factor <= rope.low_freq_factor) {
    return Corrupt(reader.Path("high_freq_factor"), "is not above low_freq_factor");
  }
  return rope;
}

// Gemma 3: sliding layers have frequencies of their own. Older files give theirs as
// rope_local_base_freq, and scaling is that of the others; where both forms are given, scaling's
// values go before those of the same names.
absl::Status ReadPerLayerKind(const json& root, ModelConfig& config) {
  Reader top(root);
  const json none = json::object();
  const json* parameters = top.Find("rope_parameters");
  if (parameters != nullptr && !parameters->is_object()) {
    return Corrupt("rope_parameters", Dump(*parameters) + " is not an object");
  }
  Reader kinds(parameters != nullptr ? *parameters : none, "rope_parameters.");
  const json* full = kinds.Find("full_attention");
  const json* sliding = kinds.Find("sliding_attention");
  if (parameters != nullptr && full == nullptr && sliding == nullptr && !parameters->empty()) {
    return Unsupported("rope_parameters", "full_attention and sliding_attention are missing");
  }
  const json* scaling = top.Find("rope_scaling");
  const double theta = top.Positive("rope_theta", 1e6);
  const double local_theta = top.Positive("rope_local_base_freq", 1e4);
  RETURN_IF_ERROR(top.status());
  if (scaling != nullptr) {
    json merged = full != nullptr ? *full : none;
    if (!scaling->is_object() || !merged.is_object()) {
      return Corrupt("rope_scaling", Dump(*scaling) + " is not an object beside another");
    }
    merged.update(*scaling);
    ASSIGN_OR_RETURN(config.rope, ReadParameters(root, merged, "rope_scaling",
                                                 /*is_scaling=*/full == nullptr, theta, config));
  } else {
    ASSIGN_OR_RETURN(config.rope,
                     ReadParameters(root, full != nullptr ? *full : none,
                                    "rope_parameters.full_attention", false, theta, config));
  }
  ASSIGN_OR_RETURN(config.local_rope,
                   ReadParameters(root, sliding != nullptr ? *sliding : none,
                                  "rope_parameters.sliding_attention", false, local_theta, config));
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadRope(const json& root, ModelConfig& config) {
  if (config.family == "gemma3_text") return ReadPerLayerKind(root, config);
  Reader top(root);
  const double theta = top.Positive("rope_theta", 10000.0);
  RETURN_IF_ERROR(top.status());
  const bool is_scaling = top.Find("rope_scaling") != nullptr;
  const char* key = is_scaling ? "rope_scaling" : "rope_parameters";
  const json none = json::object();
  const json* object = top.Find(key);
  if (object == nullptr) object = &none;
  if (object->is_object()) {
    for (const auto& [name, value] : object->items()) {
      if (!value.is_object()) continue;
      return Unsupported(key, Printable(name) +
                                  ": parameters for each kind of layer are not supported in this "
                                  "family");
    }
  }
  ASSIGN_OR_RETURN(config.rope, ReadParameters(root, *object, key, is_scaling && object != &none,
                                               theta, config));
  if (config.rope.theta != theta && top.Find("rope_theta") != nullptr) {
    return Corrupt(std::string(key) + ".rope_theta", "differs from rope_theta");
  }
  return absl::OkStatus();
}

}  // namespace svdllm::config
