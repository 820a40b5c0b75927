#include "tokenizer/tokenizer.h"

#include <algorithm>
#include <utility>

#include "base/files.h"
#include "formats/gguf.h"
#include "tokenizer/config.h"
#include "tokenizer/gguf.h"
#include "tokenizer/json.h"
#include "tokenizer/pipeline.h"
#include "tokenizer/ranks.h"
#include "tokenizer/sentencepiece.h"
#include "tokenizer/vocab_merges.h"

namespace svdllm {
namespace {

absl::Status Unsupported(std::string message) {
  return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedTokenizer, message);
}

// The special tokens of a LlamaTokenizer.
struct LlamaTokens {
  std::string bos, eos, unk;
};

// Puts config's added and special tokens into out, which has the model's pieces, as the ids and
// with the flags that the reference gives them.
absl::Status AddLlamaTokens(const std::string& path, const TokenizerConfig& config,
                            const LlamaTokens& names, const SentencePieceModel& model,
                            TokenizerPipeline* out) {
  out->added = AddedTokenFinder(/*separators_are_spaces=*/true);
  std::vector<AddedToken> tokens = config.added_tokens;
  const auto find = [&tokens](const std::string& content) {
    return std::find_if(tokens.begin(), tokens.end(),
                        [&](const AddedToken& token) { return token.content == content; });
  };
  const size_t count = out->tokens.size() + tokens.size();
  for (const AddedToken& token : tokens) {
    if (!TokenizerPipeline::IsPossible(token.id, count)) {
      return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                       path + ": impossible id of token " + token.content);
    }
    out->SetToken(token.id, {.text = token.content, .apart = true});
  }
  // Special tokens that are only named get the model's id, or the next free one.
  std::vector<AddedToken> special = config.special_tokens;
  for (const std::string& name : {names.bos, names.eos, names.unk}) {
    special.push_back({.content = name, .special = true});
  }
  for (AddedToken& token : special) {
    if (find(token.content) == tokens.end()) {
      token.id = model.Find(token.content);
      if (token.id < 0) token.id = static_cast<int32_t>(out->tokens.size());
      out->SetToken(token.id, {.text = token.content});
      tokens.push_back(token);
    }
    token.id = find(token.content)->id;
    out->special_ids.push_back(token.id);
  }
  for (const AddedToken& token : tokens) {
    if (token.single_word) {
      return Unsupported(path + ": added token " + token.content + ": single_word");
    }
    out->added.Add(token, token.content);
  }
  const auto info = [out](const AddedToken& token) -> TokenInfo& {
    return out->tokens[static_cast<size_t>(token.id)];
  };
  for (const AddedToken& token : special) {
    info(token).special = true;
    info(token).apart = false;
  }
  for (const AddedToken& token : special) {
    if (token.additional && token.id >= model.size()) info(token).apart = true;
  }
  out->bos_id = find(names.bos)->id;
  out->eos_id = find(names.eos)->id;
  if (config.add_bos_token.value_or(true)) out->prefix.push_back(*out->bos_id);
  if (config.add_eos_token.value_or(false)) out->suffix.push_back(*out->eos_id);
  return absl::OkStatus();
}

// tokenizer.model as transformers' LlamaTokenizer reads it: added tokens are found in the text
// first, SentencePiece encodes what lies between them.
absl::StatusOr<TokenizerPipeline> LoadSentencePiece(const std::string& path,
                                                    const TokenizerConfig& config) {
  ASSIGN_OR_RETURN(std::string serialized, ReadTokenizerFile(path));
  if (IsRankFile(serialized)) return LoadRanks(path, serialized, config);
  if (!config.tokenizer_class.empty() && !config.IsLlama()) {
    return Unsupported(path + ": tokenizer_class " + config.tokenizer_class +
                       " is not supported without a tokenizer.json");
  }
  const LlamaTokens names = {config.bos_token.value_or("<s>"), config.eos_token.value_or("</s>"),
                             config.unk_token.value_or("<unk>")};
  const bool legacy = config.legacy.value_or(true);
  auto model = SentencePieceModel::Parse(std::move(serialized), legacy, names.unk);
  if (!model.ok()) return Annotate(model.status(), path);
  TokenizerPipeline out;
  for (int32_t id = 0; id < model->size(); ++id) out.SetToken(id, {.text = model->Piece(id)});
  RETURN_IF_ERROR(AddLlamaTokens(path, config, names, *model, &out));
  out.llama_legacy = legacy;
  out.llama_strip = config.add_prefix_space.value_or(true);
  if (!legacy) {
    out.llama_rewrite = true;
    out.llama_prefix = out.llama_strip;
    out.llama_space_id = model->Find("\xe2\x96\x81");
  }
  out.model = *std::move(model);
  return out;
}

// tokenizer.model, or, as Mistral names its versions, the latest of tokenizer.model.v1, .v2 …
std::string FindModelFile(const std::string& dir) {
  std::string found = dir + "/tokenizer.model";
  for (int version = 1; version < 10 && !Exists(dir + "/tokenizer.model"); ++version) {
    const std::string path = dir + "/tokenizer.model.v" + std::to_string(version);
    if (Exists(path)) found = path;
  }
  return found;
}

absl::StatusOr<TokenizerPipeline> LoadGguf(const std::string& path) {
  ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Open(path));
  ASSIGN_OR_RETURN(const auto files, GgufTokenizerFiles(file));
  ASSIGN_OR_RETURN(const TokenizerConfig config,
                   ParseTokenizerConfig(files.at("tokenizer_config.json"), path));
  return ParseTokenizerJson(files.at("tokenizer.json"), config, path);
}

// path: the file that it is read from.
absl::StatusOr<TokenizerPipeline> LoadPipeline(const std::string& dir, std::string& path) {
  ASSIGN_OR_RETURN(const std::optional<std::string> gguf, GgufPathOf(dir));
  if (gguf) {
    path = *gguf;
    return LoadGguf(path);
  }
  ASSIGN_OR_RETURN(const TokenizerConfig config, ReadTokenizerConfig(dir));
  // transformers, too, takes tokenizer.json where there are several.
  path = dir + "/tokenizer.json";
  if (Exists(path)) return LoadTokenizerJson(path, config);
  path = FindModelFile(dir);
  if (Exists(path)) return LoadSentencePiece(path, config);
  path = dir + "/vocab.json";
  if (Exists(path)) return LoadVocabMerges(dir, config);
  if (Exists(dir + "/tekken.json")) {
    return Unsupported(dir + "/tekken.json is not supported");
  }
  return MakeError(absl::StatusCode::kNotFound, kModelNotFound,
                   dir + ": no tokenizer.json, tokenizer.model or vocab.json");
}

}  // namespace

struct Tokenizer::Impl {
  TokenizerPipeline pipeline;
  std::string path;  // of the file that it was read from
};

absl::StatusOr<Tokenizer> Tokenizer::Load(const std::string& model_dir) {
  std::string path;
  ASSIGN_OR_RETURN(TokenizerPipeline pipeline, LoadPipeline(model_dir, path));
  return Tokenizer(std::make_unique<Impl>(Impl{std::move(pipeline), std::move(path)}));
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::vector<int32_t>> Tokenizer::Encode(std::string_view text,
                                                       bool add_special_tokens) const {
  absl::StatusOr<std::vector<int32_t>> ids = impl_->pipeline.Encode(text, add_special_tokens);
  if (!ids.ok()) return Annotate(ids.status(), impl_->path);
  return ids;
}

std::span<const int32_t> Tokenizer::start_ids() const { return impl_->pipeline.prefix; }

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special_tokens) const {
  return impl_->pipeline.Decode(ids, skip_special_tokens);
}

std::optional<int32_t> Tokenizer::IdOf(std::string_view token) const {
  return impl_->pipeline.IdOf(token);
}

std::optional<int32_t> Tokenizer::bos_id() const { return impl_->pipeline.bos_id; }
std::optional<int32_t> Tokenizer::eos_id() const { return impl_->pipeline.eos_id; }

int64_t Tokenizer::vocab_size() const {
  return static_cast<int64_t>(impl_->pipeline.tokens.size());
}

}  // namespace svdllm
