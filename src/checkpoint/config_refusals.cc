// Keys that transformers reads for whatever family, and that make it compute what none does here.
#include <string>

#include "checkpoint/architecture.h"
#include "checkpoint/config_reader.h"

namespace svdllm::config {
namespace {

// Refused unless absent or null.
struct RefusedKey {
  const char* key;
  const char* why;
};
constexpr RefusedKey kRefused[] = {
    {"quantization_config", "quantised checkpoints are not supported, give the original weights"},
    {"attention_chunk_size", "attention in chunks is not supported"},
    {"per_layer_config", "layers of different shapes are not supported"},
    {"kv_sharing_modes", "keys and values that layers share are not supported"},
    {"transformers_weights", "weights are read from model.safetensors or its index only"},
    // transformers would compute with what these hold.
    {"text_config", "a model of several parts: give its text model by itself"},
    {"text_encoder", "a model of several parts: give its text model by itself"},
    {"decoder", "a model of several parts: give its text model by itself"},
    {"generator", "a model of several parts: give its text model by itself"},
};

// The classes that the weights are meant for. A class without a head for the next token is another
// model, even where all tensors of a causal one are there.
absl::Status CheckArchitectures(const Reader& root, ModelConfig& config) {
  const json* names = root.Find("architectures");
  if (names == nullptr) return absl::OkStatus();
  if (!names->is_array()) return Corrupt("architectures", Dump(*names) + " is not a list of names");
  const std::string base = std::string(FindArchitecture(config.family)->classes) + "Model";
  bool is_causal = names->empty();
  for (const json& name : *names) {
    if (!name.is_string()) return Corrupt("architectures", Dump(name) + " is not a name");
    const std::string& text = name.get_ref<const std::string&>();
    is_causal = is_causal || text.ends_with("ForCausalLM");
    config.is_base_model = config.is_base_model || text == base;
  }
  if (is_causal) config.is_base_model = false;
  if (is_causal || config.is_base_model) return absl::OkStatus();
  return Unsupported("architectures", Dump(*names) +
                                          ": only models that predict the next token "
                                          "(...ForCausalLM) are supported");
}

}  // namespace

absl::Status RefuseForeign(const Reader& root, ModelConfig& config) {
  for (const auto& [key, why] : kRefused) {
    if (const json* value = root.Find(key)) {
      const std::string text = Dump(*value);
      // The whole of a configuration inside this one helps nobody.
      return Unsupported(key, value->is_object() ? std::string(why) : text + ": " + why);
    }
  }
  // A null is falsy to transformers and makes attention look both ways, too.
  if (const json* causal = root.Given("is_causal"); causal != nullptr && *causal != true) {
    return Unsupported("is_causal",
                       Dump(*causal) + " is not supported: attention that looks ahead");
  }
  if (const json* both = root.Find("is_encoder_decoder"); both != nullptr && *both != false) {
    return Unsupported("is_encoder_decoder", Dump(*both) + " is not supported");
  }
  return CheckArchitectures(root, config);
}

}  // namespace svdllm::config
