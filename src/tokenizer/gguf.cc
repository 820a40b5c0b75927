#include "tokenizer/gguf.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/utf8.h"
#include "tokenizer/byte_level.h"

namespace svdllm {
namespace {

using nlohmann::json;

constexpr char kSpacePiece[] = "\xe2\x96\x81";  // U+2581
// The format's types of tokens that are not just text.
constexpr int64_t kUnknownToken = 2, kControlToken = 3, kUserToken = 4;

constexpr size_t kMaxTokenBytes = 1 << 12;
// Of all merges that scores stand for: LLaMA's 61,249 take a twentieth.
constexpr size_t kMaxMergeBytes = size_t{1} << 26;

absl::Status Unsupported(const GgufFile& file, const std::string& what) {
  return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedTokenizer,
                   file.path() + ": " + what);
}

struct Tokens {
  const std::vector<std::string>* texts = nullptr;
  const std::vector<int64_t>* types = nullptr;  // nullptr: not given
  std::optional<int64_t> bos, eos, unknown, padding;
};

absl::StatusOr<Tokens> ReadTokens(const GgufFile& file) {
  Tokens tokens;
  ASSIGN_OR_RETURN(tokens.texts, file.Strings("tokenizer.ggml.tokens"));
  ASSIGN_OR_RETURN(tokens.types, file.Ints("tokenizer.ggml.token_type"));
  if (tokens.texts == nullptr) return file.Corrupt("tokenizer.ggml.tokens: missing");
  const size_t size = tokens.texts->size();
  if (tokens.types != nullptr && tokens.types->size() != size) {
    return file.Corrupt("tokenizer.ggml.token_type: not one for each token");
  }
  for (size_t id = 0; id < size; ++id) {
    const std::string& text = (*tokens.texts)[id];
    if (!IsValidUtf8(text) || text.size() > kMaxTokenBytes) {
      return file.Corrupt("tokenizer.ggml.tokens: token " + std::to_string(id) +
                          (text.size() > kMaxTokenBytes ? ": too long" : ": not UTF-8"));
    }
  }
  for (const auto& [key, id] :
       {std::pair("bos", &tokens.bos), std::pair("eos", &tokens.eos),
        std::pair("unknown", &tokens.unknown), std::pair("padding", &tokens.padding)}) {
    const std::string name = std::string("tokenizer.ggml.") + key + "_token_id";
    ASSIGN_OR_RETURN(*id, file.Int(name));
    if (*id && (**id < 0 || static_cast<size_t>(**id) >= size)) {
      return file.Corrupt(name + ": " + std::to_string(**id) + " is no token");
    }
  }
  return tokens;
}

json AddedTokens(const Tokens& tokens) {
  json added = json::array();
  for (size_t id = 0; tokens.types != nullptr && id < tokens.types->size(); ++id) {
    const int64_t type = (*tokens.types)[id];
    if (type != kUnknownToken && type != kControlToken && type != kUserToken) continue;
    added.push_back({{"id", id},
                     {"content", (*tokens.texts)[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", type != kUserToken}});
  }
  return added;
}

json VocabularyJson(const Tokens& tokens) {
  json vocab = json::object();
  for (size_t id = 0; id < tokens.texts->size(); ++id) vocab.emplace((*tokens.texts)[id], id);
  return vocab;
}

absl::StatusOr<json> ByteLevelJson(const GgufFile& file, const Tokens& tokens) {
  ASSIGN_OR_RETURN(const auto pre, file.String("tokenizer.ggml.pre"));
  const ByteLevelKind* kind = FindByteLevelKind(pre.value_or(""));
  if (kind == nullptr) {
    return Unsupported(file, "tokenizer.ggml.pre " + Printable(pre.value_or("(none)")) +
                                 " is not supported (supported: " + KnownByteLevelKinds() + ")");
  }
  ASSIGN_OR_RETURN(const auto* merges, file.Strings("tokenizer.ggml.merges"));
  if (merges == nullptr) return file.Corrupt("tokenizer.ggml.merges: missing");
  if (!std::all_of(merges->begin(), merges->end(), [](const auto& m) { return IsValidUtf8(m); })) {
    return file.Corrupt("tokenizer.ggml.merges: not UTF-8");
  }
  ASSIGN_OR_RETURN(const auto prefix_space, file.Int("tokenizer.ggml.add_space_prefix"));
  return ByteLevelTokenizerJson(*kind, VocabularyJson(tokens), *merges,
                                prefix_space.value_or(0) != 0);
}

// SentencePiece has a score for each piece, tokenizer.json a list of merges: a piece can be made of
// any two others, the highest score first.
absl::StatusOr<json> MergesOfScores(const GgufFile& file, const Tokens& tokens,
                                    const std::vector<double>& scores) {
  std::unordered_map<std::string_view, size_t> ids;
  for (size_t id = 0; id < tokens.texts->size(); ++id) ids.emplace((*tokens.texts)[id], id);
  struct Merge {
    double score;
    std::string_view left, right;
  };
  std::vector<Merge> merges;
  size_t bytes = 0;
  for (size_t id = 0; id < tokens.texts->size(); ++id) {
    const std::string_view text = (*tokens.texts)[id];
    const size_t first = merges.size();
    for (size_t cut = text.empty() ? 0 : CharLength(text[0]); cut < text.size();
         cut += CharLength(text[cut])) {
      if (ids.count(text.substr(0, cut)) > 0 && ids.count(text.substr(cut)) > 0) {
        merges.push_back({scores[id], text.substr(0, cut), text.substr(cut)});
        bytes += sizeof(Merge) + text.size();
        if (bytes > kMaxMergeBytes) {
          return file.Corrupt("tokenizer.ggml.tokens: too many of them are made of others");
        }
      }
    }
    std::sort(merges.begin() + static_cast<std::ptrdiff_t>(first), merges.end(),
              [&](const Merge& a, const Merge& b) {
                return std::pair(ids.at(a.left), ids.at(a.right)) <
                       std::pair(ids.at(b.left), ids.at(b.right));
              });
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tuple(a.score, a.left.size(), a.right.size()) >
           std::tuple(b.score, b.left.size(), b.right.size());
  });
  json list = json::array();
  for (const Merge& merge : merges) {
    list.push_back(json::array({std::string(merge.left), std::string(merge.right)}));
  }
  return list;
}

// As LLaMA 2's tokenizer.json says what its SentencePiece model does.
absl::StatusOr<json> SentencePieceJson(const GgufFile& file, const Tokens& tokens) {
  ASSIGN_OR_RETURN(const auto* scores, file.Doubles("tokenizer.ggml.scores"));
  if (scores == nullptr || scores->size() != tokens.texts->size()) {
    return file.Corrupt("tokenizer.ggml.scores: not one for each token");
  }
  const auto charsmap = file.metadata().find("tokenizer.ggml.precompiled_charsmap");
  ASSIGN_OR_RETURN(const auto remove, file.Int("tokenizer.ggml.remove_extra_whitespaces"));
  if (charsmap != file.metadata().end() || remove.value_or(0) != 0) {
    return Unsupported(file, charsmap != file.metadata().end()
                                 ? "tokenizer.ggml.precompiled_charsmap"
                                 : "tokenizer.ggml.remove_extra_whitespaces");
  }
  ASSIGN_OR_RETURN(const auto prefix, file.Int("tokenizer.ggml.add_space_prefix"));
  const json to_pieces = {
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpacePiece}};
  const json to_spaces = {
      {"type", "Replace"}, {"pattern", {{"String", kSpacePiece}}}, {"content", " "}};
  json normalizers = json::array({to_pieces});
  json decoders = json::array(
      {to_spaces, json::object({{"type", "ByteFallback"}}), json::object({{"type", "Fuse"}})});
  if (prefix.value_or(1) != 0) {
    normalizers.insert(normalizers.begin(),
                       json::object({{"type", "Prepend"}, {"prepend", kSpacePiece}}));
    decoders.push_back(
        json::object({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}));
  }
  ASSIGN_OR_RETURN(json merges, MergesOfScores(file, tokens, *scores));
  const auto unknown = static_cast<size_t>(tokens.unknown.value_or(0));
  if (unknown >= tokens.texts->size()) return file.Corrupt("tokenizer.ggml.tokens: empty");
  return json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", json::array()},
              {"normalizer", {{"type", "Sequence"}, {"normalizers", std::move(normalizers)}}},
              {"pre_tokenizer", nullptr},
              {"post_processor", nullptr},
              {"decoder", {{"type", "Sequence"}, {"decoders", std::move(decoders)}}},
              {"model",
               {{"type", "BPE"},
                {"dropout", nullptr},
                {"unk_token", (*tokens.texts)[unknown]},
                {"continuing_subword_prefix", nullptr},
                {"end_of_word_suffix", nullptr},
                {"fuse_unk", true},
                {"byte_fallback", true},
                {"ignore_merges", false},
                {"vocab", VocabularyJson(tokens)},
                {"merges", std::move(merges)}}}};
}

// What is put around every text; null where nothing is.
absl::StatusOr<json> Template(const GgufFile& file, const Tokens& tokens, bool bos_by_default) {
  ASSIGN_OR_RETURN(const auto add_bos, file.Int("tokenizer.ggml.add_bos_token"));
  ASSIGN_OR_RETURN(const auto add_eos, file.Int("tokenizer.ggml.add_eos_token"));
  const auto text = [](const char* name, int type) {
    return json::object({{"Sequence", {{"id", name}, {"type_id", type}}}});
  };
  json single = json::array({text("A", 0)});
  json pair = json::array({text("A", 0), text("B", 1)});
  json special = json::object();
  const auto add = [&](bool wanted, const std::optional<int64_t>& id, bool front) {
    if (!wanted || !id) return;
    const std::string& token = (*tokens.texts)[static_cast<size_t>(*id)];
    special[token] = {{"id", token}, {"ids", json::array({*id})}, {"tokens", json::array({token})}};
    const json piece = {{"SpecialToken", {{"id", token}, {"type_id", 0}}}};
    for (json* list : {&single, &pair}) list->insert(front ? list->begin() : list->end(), piece);
  };
  add(add_bos ? *add_bos != 0 : bos_by_default, tokens.bos, /*front=*/true);
  add(add_eos.value_or(0) != 0, tokens.eos, /*front=*/false);
  if (special.empty()) return json();
  return json{{"type", "TemplateProcessing"},
              {"single", std::move(single)},
              {"pair", std::move(pair)},
              {"special_tokens", std::move(special)}};
}

absl::StatusOr<json> ConfigJson(const GgufFile& file, const Tokens& tokens) {
  json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false}};
  for (const auto& [key, id] :
       {std::pair("bos_token", tokens.bos), std::pair("eos_token", tokens.eos),
        std::pair("unk_token", tokens.unknown), std::pair("pad_token", tokens.padding)}) {
    if (id) config[key] = (*tokens.texts)[static_cast<size_t>(*id)];
  }
  ASSIGN_OR_RETURN(const auto length, file.Int("llama.context_length"));
  if (length) config["model_max_length"] = *length;
  ASSIGN_OR_RETURN(const auto chat, file.String("tokenizer.chat_template"));
  if (chat && IsValidUtf8(*chat)) config["chat_template"] = *chat;
  return config;
}

}  // namespace

absl::StatusOr<std::map<std::string, std::string>> GgufTokenizerFiles(const GgufFile& file) {
  ASSIGN_OR_RETURN(const auto model, file.String("tokenizer.ggml.model"));
  const bool byte_level = model == "gpt2";
  if (!byte_level && model != "llama") {
    return Unsupported(file, "tokenizer.ggml.model " + Printable(model.value_or("(none)")) +
                                 " is not supported (supported: gpt2, llama)");
  }
  ASSIGN_OR_RETURN(const Tokens tokens, ReadTokens(file));
  json tokenizer;
  if (byte_level) {
    ASSIGN_OR_RETURN(tokenizer, ByteLevelJson(file, tokens));
  } else {
    ASSIGN_OR_RETURN(tokenizer, SentencePieceJson(file, tokens));
  }
  tokenizer["added_tokens"] = AddedTokens(tokens);
  // Where the file does not say, it means what the files of its kind did when they were made.
  const bool ignores_merges = tokenizer["model"]["ignore_merges"].get<bool>();  // LLaMA 3
  ASSIGN_OR_RETURN(tokenizer["post_processor"],
                   Template(file, tokens, /*bos_by_default=*/!byte_level || ignores_merges));
  ASSIGN_OR_RETURN(const json config, ConfigJson(file, tokens));
  json generation = json::object();
  for (const auto& [key, id] :
       {std::pair("bos_token_id", tokens.bos), std::pair("eos_token_id", tokens.eos),
        std::pair("pad_token_id", tokens.padding)}) {
    if (id) generation[key] = *id;
  }
  return std::map<std::string, std::string>{{"tokenizer.json", tokenizer.dump() + "\n"},
                                            {"tokenizer_config.json", config.dump(2) + "\n"},
                                            {"generation_config.json", generation.dump(2) + "\n"}};
}

}  // namespace svdllm
