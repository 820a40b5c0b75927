#include "tokenizer/config.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "base/files.h"
#include "base/json.h"

namespace svdllm {
namespace {

using nlohmann::json;

absl::StatusOr<json> ParseJsonObject(const std::string& text, const std::string& name) {
  absl::StatusOr<json> value = ParseJson(text);
  if (!value.ok() || !value->is_object()) {
    return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                     name + ": not a JSON object");
  }
  return value;
}

// A JSON object, empty where there is no such file.
absl::StatusOr<json> ReadJsonObject(const std::string& path) {
  if (!Exists(path)) return json::object();
  ASSIGN_OR_RETURN(const std::string text, ReadTokenizerFile(path));
  return ParseJsonObject(text, path);
}

// A token written as a string, or as an object with its flags.
AddedToken ParseToken(const json& value, bool special) {
  AddedToken token;
  token.special = special;
  if (value.is_string()) {
    token.content = value.get<std::string>();
    return token;
  }
  token.content = value.at("content").get<std::string>();
  token.single_word = value.value("single_word", false);
  token.lstrip = value.value("lstrip", false);
  token.rstrip = value.value("rstrip", false);
  token.special = value.value("special", special);
  token.normalized = value.value("normalized", !token.special);
  return token;
}

std::optional<bool> OptionalBool(const json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || it->is_null()) return std::nullopt;
  return it->get<bool>();
}

// The special tokens that transformers takes for a class where the files do not say.
json DefaultTokens(const std::string& tokenizer_class) {
  constexpr const char* kEndOfText = "<|endoftext|>";
  if (tokenizer_class == "LlamaTokenizer" || tokenizer_class == "CodeLlamaTokenizer") {
    return {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"unk_token", "<unk>"}};
  }
  if (tokenizer_class == "GPT2Tokenizer") {
    return {{"bos_token", kEndOfText}, {"eos_token", kEndOfText}, {"unk_token", kEndOfText}};
  }
  if (tokenizer_class == "Qwen2Tokenizer") {
    return {{"eos_token", kEndOfText}, {"unk_token", kEndOfText}, {"pad_token", kEndOfText}};
  }
  if (tokenizer_class == "GemmaTokenizer") {
    return {{"bos_token", "<bos>"},
            {"eos_token", "<eos>"},
            {"unk_token", "<unk>"},
            {"pad_token", "<pad>"}};
  }
  return json::object();
}

void ParseSpecialTokens(const json& config, TokenizerConfig* out) {
  std::map<std::string, std::optional<std::string>*> names = {{"bos_token", &out->bos_token},
                                                              {"eos_token", &out->eos_token},
                                                              {"unk_token", &out->unk_token}};
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token",
                          "cls_token", "mask_token"}) {
    const auto it = config.find(key);
    if (it == config.end() || it->is_null()) continue;
    out->special_tokens.push_back(ParseToken(*it, true));
    if (names.count(key) > 0) *names[key] = out->special_tokens.back().content;
  }
  const auto more = config.find("additional_special_tokens");
  if (more == config.end() || !more->is_array()) return;
  for (const json& token : *more) {
    out->special_tokens.push_back(ParseToken(token, true));
    out->special_tokens.back().additional = true;
  }
}

TokenizerConfig Parse(const json& config, const json& legacy_added) {
  TokenizerConfig out;
  if (const auto it = config.find("tokenizer_class"); it != config.end() && it->is_string()) {
    out.tokenizer_class = it->get<std::string>();
    constexpr std::string_view kFast = "Fast";
    if (out.tokenizer_class.ends_with(kFast)) {
      out.tokenizer_class.resize(out.tokenizer_class.size() - kFast.size());
    }
  }
  out.add_bos_token = OptionalBool(config, "add_bos_token");
  out.add_eos_token = OptionalBool(config, "add_eos_token");
  out.legacy = OptionalBool(config, "legacy");
  out.add_prefix_space = OptionalBool(config, "add_prefix_space");
  json special = DefaultTokens(out.tokenizer_class);
  special.update(config);
  ParseSpecialTokens(special, &out);
  if (const auto it = config.find("added_tokens_decoder"); it != config.end()) {
    for (const auto& [id, value] : it->items()) {
      out.added_tokens.push_back(ParseToken(value, false));
      out.added_tokens.back().id = std::stoi(id);
    }
  } else {
    for (const auto& [content, id] : legacy_added.items()) {
      AddedToken token;
      token.content = content;
      token.id = id.get<int32_t>();
      token.special = std::any_of(out.special_tokens.begin(), out.special_tokens.end(),
                                  [&](const AddedToken& t) { return t.content == token.content; });
      token.normalized = !token.special;
      out.added_tokens.push_back(token);
    }
  }
  std::sort(out.added_tokens.begin(), out.added_tokens.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  return out;
}

absl::StatusOr<TokenizerConfig> ParseNamed(const json& config, const json& legacy_added,
                                           const std::string& name) {
  try {
    return Parse(config, legacy_added);
  } catch (const std::exception& e) {  // json's, and stoi's
    return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt, name + ": " + e.what());
  }
}

// A directory with vocab.json only holds a GPT-2-like tokenizer; without tokenizer_class the kind
// of model tells which, as it does for transformers.
absl::Status SetGpt2Class(const std::string& model_dir, json* config) {
  if (config->contains("tokenizer_class")) return absl::OkStatus();
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    if (Exists(model_dir + "/" + name)) return absl::OkStatus();
  }
  if (!Exists(model_dir + "/vocab.json")) return absl::OkStatus();
  ASSIGN_OR_RETURN(const json model, ReadJsonObject(model_dir + "/config.json"));
  const auto type = model.find("model_type");
  const bool qwen = type != model.end() && type->is_string() &&
                    type->get_ref<const std::string&>().starts_with("qwen");
  (*config)["tokenizer_class"] = qwen ? "Qwen2Tokenizer" : "GPT2Tokenizer";
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> ReadTokenizerFile(const std::string& path) {
  absl::StatusOr<std::string> text = ReadFile(path, int64_t{1} << 30);
  if (text.ok()) return text;
  const absl::StatusCode code = text.status().code();
  const bool missing = code == absl::StatusCode::kNotFound;
  return MakeError(code, missing ? kModelNotFound : kModelCorrupt,
                   std::string(text.status().message()));
}

absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& model_dir) {
  ASSIGN_OR_RETURN(json config, ReadJsonObject(model_dir + "/tokenizer_config.json"));
  RETURN_IF_ERROR(SetGpt2Class(model_dir, &config));
  json legacy_added = json::object();
  // The older layout's files; where there is an added_tokens_decoder, it says all that they do.
  if (!config.contains("added_tokens_decoder")) {
    ASSIGN_OR_RETURN(const json map, ReadJsonObject(model_dir + "/special_tokens_map.json"));
    for (const auto& [key, value] : map.items()) config[key] = value;
    ASSIGN_OR_RETURN(legacy_added, ReadJsonObject(model_dir + "/added_tokens.json"));
  }
  return ParseNamed(config, legacy_added, model_dir + "/tokenizer_config.json");
}

absl::StatusOr<TokenizerConfig> ParseTokenizerConfig(const std::string& text,
                                                     const std::string& name) {
  ASSIGN_OR_RETURN(const json config, ParseJsonObject(text, name));
  return ParseNamed(config, json::object(), name);
}

}  // namespace svdllm
