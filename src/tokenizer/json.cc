#include "tokenizer/json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/json.h"
#include "tokenizer/json_steps.h"

namespace svdllm {
namespace {

using nlohmann::json;

absl::Status Corrupt(std::string_view what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt, what);
}

absl::StatusOr<BpeModel> ParseModel(const json& model) {
  // The oldest files name no type.
  const std::string type = model.value("type", model.contains("merges") ? "BPE" : "unknown");
  if (type != "BPE") return UnsupportedComponent("model", type);
  const auto given = [&model](const char* key) {
    const auto it = model.find(key);
    return it != model.end() && !it->is_null() ? &*it : nullptr;
  };
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const json* affix = given(key);
    if (affix != nullptr && !affix->get_ref<const std::string&>().empty()) {
      return UnsupportedComponent("model", key);
    }
  }
  if (const json* dropout = given("dropout"); dropout != nullptr && dropout->get<double>() > 0) {
    return UnsupportedComponent("model", "dropout");
  }
  BpeOptions options;
  options.ignore_merges = model.value("ignore_merges", false);
  options.byte_fallback = model.value("byte_fallback", false);
  options.fuse_unk = model.value("fuse_unk", false);
  if (const json* unk = given("unk_token")) options.unk_token = unk->get<std::string>();

  Vocabulary vocabulary;
  vocabulary.reserve(model.at("vocab").size());
  for (const auto& [token, id] : model.at("vocab").items()) {
    const auto value = id.get<int64_t>();
    if (!id.is_number_integer() ||
        !TokenizerPipeline::IsPossible(value, model.at("vocab").size())) {
      return Corrupt("model: impossible id of token " + token);
    }
    vocabulary.emplace(token, static_cast<int32_t>(value));
  }
  BpeModel::MergeList merges;
  merges.reserve(model.at("merges").size());
  for (const json& merge : model.at("merges")) {
    if (merge.is_array() && merge.size() == 2) {
      merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    const auto& pair = merge.get_ref<const std::string&>();
    const size_t space = pair.find(' ');
    if (space == pair.npos || pair.find(' ', space + 1) != pair.npos) {
      return Corrupt("model: malformed merge \"" + pair + "\"");
    }
    merges.emplace_back(pair.substr(0, space), pair.substr(space + 1));
  }
  return BpeModel::Create(std::move(vocabulary), merges, options);
}

// The added tokens of the file and of the configuration, with the ids that the reference gives
// them: the vocabulary's where it has the token, else the next free one, whatever the file says.
class AddedVocabulary {
 public:
  explicit AddedVocabulary(const BpeModel& model)
      : model_(model), next_id_(static_cast<int32_t>(model.vocabulary().size())) {}

  bool Has(const std::string& content) const { return Get(content) != nullptr; }

  void Put(AddedToken token) {
    if (token.content.empty()) return;
    const AddedToken* known = Get(token.content);
    const auto in_model = model_.Find(token.content);
    token.id = known != nullptr ? known->id : in_model ? *in_model : next_id_;
    next_id_ = std::max(next_id_, token.id + 1);
    if (known != nullptr) {
      tokens_[static_cast<size_t>(known - tokens_.data())] = std::move(token);
    } else {
      tokens_.push_back(std::move(token));
    }
  }

  std::optional<int32_t> Find(const std::string& content) const {
    const AddedToken* known = Get(content);
    return known != nullptr ? known->id : model_.Find(content);
  }

  const std::vector<AddedToken>& tokens() const { return tokens_; }

 private:
  const AddedToken* Get(const std::string& content) const {
    for (const AddedToken& token : tokens_) {
      if (token.content == content) return &token;
    }
    return nullptr;
  }

  const BpeModel& model_;
  int32_t next_id_;
  std::vector<AddedToken> tokens_;
};

void ReadAddedTokens(const json& file, const TokenizerConfig& config, AddedVocabulary* added) {
  const auto it = file.find("added_tokens");
  if (it != file.end() && it->is_array()) {
    for (const json& value : *it) {
      AddedToken token;
      token.content = value.at("content").get<std::string>();
      token.single_word = value.value("single_word", false);
      token.lstrip = value.value("lstrip", false);
      token.rstrip = value.value("rstrip", false);
      token.special = value.value("special", false);
      token.normalized = value.value("normalized", !token.special);
      added->Put(std::move(token));
    }
  }
  // As transformers: the configuration's flags win, and special tokens that are only named exist.
  for (const AddedToken& token : config.added_tokens) added->Put(token);
  for (const AddedToken& token : config.special_tokens) {
    if (!added->Has(token.content)) added->Put(token);
  }
}

// Wraps prefix and suffix in what a post-processor adds.
absl::Status ParsePostProcessor(const json& component, TokenizerPipeline* out) {
  if (component.is_null()) return absl::OkStatus();
  const auto type = component.at("type").get<std::string>();
  if (type == "ByteLevel") return absl::OkStatus();  // offsets only
  if (type == "Sequence") {
    for (const json& inner : component.at("processors")) {
      RETURN_IF_ERROR(ParsePostProcessor(inner, out));
    }
    return absl::OkStatus();
  }
  std::vector<int32_t> before, after;
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    before.push_back(component.at("cls").at(1).get<int32_t>());
    after.push_back(component.at("sep").at(1).get<int32_t>());
  } else if (type == "TemplateProcessing") {
    bool seen_text = false;
    for (const json& piece : component.at("single")) {
      if (piece.contains("Sequence")) {
        if (seen_text) return UnsupportedComponent("post_processor", "template that repeats $A");
        seen_text = true;
        continue;
      }
      const auto name = piece.at("SpecialToken").at("id").get<std::string>();
      auto& side = seen_text ? after : before;
      for (const json& id : component.at("special_tokens").at(name).at("ids")) {
        side.push_back(id.get<int32_t>());
      }
    }
    if (!seen_text) return UnsupportedComponent("post_processor", "template without $A");
  } else {
    return UnsupportedComponent("post_processor", type);
  }
  out->prefix.insert(out->prefix.begin(), before.begin(), before.end());
  out->suffix.insert(out->suffix.end(), after.begin(), after.end());
  return absl::OkStatus();
}

// Some of transformers' classes replace the file's post-processor by one of their own.
absl::Status SetClassTemplate(const TokenizerConfig& config, const AddedVocabulary& added,
                              TokenizerPipeline* out) {
  const auto set = [&](bool wanted, const std::string& token, std::vector<int32_t>* ids) {
    ids->clear();
    if (!wanted) return absl::OkStatus();
    const auto id = added.Find(token);
    if (!id) return Corrupt("no token " + token);
    ids->push_back(*id);
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(
      set(config.add_bos_token.value_or(true), config.bos_token.value_or("<s>"), &out->prefix));
  return set(config.add_eos_token.value_or(false), config.eos_token.value_or("</s>"), &out->suffix);
}

absl::StatusOr<TokenizerPipeline> Parse(const json& file, const TokenizerConfig& config) {
  const auto component = [&file](const char* key) { return file.value(key, json()); };
  std::vector<NormalizerStep> normalizer;
  RETURN_IF_ERROR(ParseNormalizer(component("normalizer"), &normalizer));
  std::vector<PreTokenizerStep> pre_tokenizer;
  RETURN_IF_ERROR(ParsePreTokenizer(component("pre_tokenizer"), &pre_tokenizer));
  std::optional<std::vector<DecoderStep>> decoder;
  if (const json component_json = component("decoder"); !component_json.is_null()) {
    RETURN_IF_ERROR(ParseDecoder(component_json, &decoder.emplace()));
  }
  ASSIGN_OR_RETURN(BpeModel model, ParseModel(file.at("model")));

  AddedVocabulary added(model);
  ReadAddedTokens(file, config, &added);
  TokenizerPipeline out;
  RETURN_IF_ERROR(ParsePostProcessor(component("post_processor"), &out));
  if (config.ReplacesTemplate()) RETURN_IF_ERROR(SetClassTemplate(config, added, &out));

  for (const auto& [token, id] : model.vocabulary()) out.SetToken(id, {.text = token});
  for (const AddedToken& token : added.tokens()) {
    out.SetToken(token.id, {.text = token.content, .special = token.special});
    if (token.normalized) {
      ASSIGN_OR_RETURN(const std::string written, ApplyNormalizer(normalizer, token.content));
      out.normalized_added.Add(token, written);
    } else {
      out.added.Add(token, token.content);
    }
  }
  for (const auto* side : {&out.prefix, &out.suffix}) {
    for (const int32_t id : *side) {
      if (id < 0 || static_cast<size_t>(id) >= out.tokens.size()) {
        return Corrupt("post_processor: id " + std::to_string(id) + " is not in the vocabulary");
      }
    }
  }
  out.normalizer = std::move(normalizer);
  if (config.bos_token) out.bos_id = added.Find(*config.bos_token);
  if (config.eos_token) out.eos_id = added.Find(*config.eos_token);
  out.model = WordTokenizer{std::move(pre_tokenizer), std::move(model), std::move(decoder)};
  return out;
}

}  // namespace

absl::StatusOr<TokenizerPipeline> LoadTokenizerJson(const std::string& path,
                                                    const TokenizerConfig& config) {
  ASSIGN_OR_RETURN(const std::string text, ReadTokenizerFile(path));
  return ParseTokenizerJson(text, config, path);
}

absl::StatusOr<TokenizerPipeline> ParseTokenizerJson(const std::string& text,
                                                     const TokenizerConfig& config,
                                                     const std::string& name) {
  const absl::StatusOr<json> file = ParseJson(text);
  if (!file.ok()) return Corrupt(name + ": " + std::string(file.status().message()));
  return BuildTokenizer(*file, config, name);
}

absl::StatusOr<TokenizerPipeline> BuildTokenizer(const json& file, const TokenizerConfig& config,
                                                 const std::string& name) {
  try {
    auto pipeline = Parse(file, config);
    if (!pipeline.ok()) return Annotate(pipeline.status(), name);
    return pipeline;
  } catch (const json::exception& e) {
    return Corrupt(name + ": " + e.what());
  }
}

}  // namespace svdllm
