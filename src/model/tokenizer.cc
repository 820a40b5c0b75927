#include "model/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "base/files.h"
#include "model/tokenizer_config.h"
#include "model/tokenizer_json.h"
#include "model/tokenizer_pipeline.h"
#include "model/tokenizer_sentencepiece.h"

namespace svdllm {
namespace {

absl::Status Unsupported(std::string message) {
  return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedTokenizer, message);
}

// LLaMA-3's original tokenizer.model: lines of a base64 token and its rank.
bool IsRankFile(std::string_view content) {
  const std::string_view line = content.substr(0, std::min(content.find('\n'), size_t{1024}));
  const size_t space = line.find(' ');
  const auto all_of = [](std::string_view part, std::string_view allowed) {
    return !part.empty() && part.find_first_not_of(allowed) == part.npos;
  };
  return space != line.npos && all_of(line.substr(space + 1), "0123456789") &&
         all_of(line.substr(0, space),
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=");
}

// tokenizer.model as transformers' LlamaTokenizer reads it: added tokens are found in the text
// first, SentencePiece encodes what lies between them.
absl::StatusOr<TokenizerPipeline> LoadSentencePiece(const std::string& path,
                                                    const TokenizerConfig& config) {
  ASSIGN_OR_RETURN(std::string serialized, ReadFile(path, int64_t{1} << 30));
  if (IsRankFile(serialized)) return Unsupported(path + ": tiktoken ranks are not supported");
  if (!config.tokenizer_class.empty() && !config.IsLlama()) {
    return Unsupported(path + ": tokenizer_class " + config.tokenizer_class + " is not supported");
  }
  const bool legacy = config.legacy.value_or(true);
  std::string error;
  auto model = SentencePieceModel::Parse(std::move(serialized), legacy, config.unk_token, &error);
  if (!model) {
    return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                     path + ": not a SentencePiece model: " + error);
  }
  TokenizerPipeline out;
  out.vocab_size = model->size();
  std::vector<AddedToken> tokens = config.added_tokens;
  const auto find = [&tokens](const std::string& content) {
    return std::find_if(tokens.begin(), tokens.end(),
                        [&](const AddedToken& token) { return token.content == content; });
  };
  for (const AddedToken& token : tokens) {
    if (token.id < 0)
      return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                       path + ": impossible id of token " + token.content);
    out.vocab_size = std::max<int64_t>(out.vocab_size, int64_t{token.id} + 1);
  }
  // Special tokens that are only named get the model's id, or the next free one.
  std::vector<AddedToken> special = config.special_tokens;
  for (const std::string& name : {config.bos_token, config.eos_token, config.unk_token}) {
    special.push_back({.content = name, .special = true});
  }
  for (AddedToken& token : special) {
    if (find(token.content) == tokens.end()) {
      token.id = model->Find(token.content);
      if (token.id < 0) token.id = static_cast<int32_t>(out.vocab_size++);
      tokens.push_back(token);
    }
    out.special_ids.push_back(find(token.content)->id);
  }
  for (const AddedToken& token : tokens) {
    if (token.single_word) {
      return Unsupported(path + ": added token " + token.content + ": single_word");
    }
    out.added.Add(token, token.content);
  }
  if (config.add_bos_token.value_or(true)) out.prefix.push_back(find(config.bos_token)->id);
  if (config.add_eos_token.value_or(false)) out.suffix.push_back(find(config.eos_token)->id);
  if (!legacy) {
    out.llama_rewrite = true;
    out.llama_prefix = config.add_prefix_space.value_or(true);
    out.llama_space_id = model->Find("\xe2\x96\x81");
  }
  out.model = *std::move(model);
  return out;
}

absl::StatusOr<TokenizerPipeline> LoadPipeline(const std::string& dir) {
  ASSIGN_OR_RETURN(const TokenizerConfig config, ReadTokenizerConfig(dir));
  // transformers, too, takes tokenizer.json where there are both.
  const std::string json = dir + "/tokenizer.json";
  if (std::filesystem::exists(json)) return LoadTokenizerJson(json, config);
  const std::string sentencepiece = dir + "/tokenizer.model";
  if (std::filesystem::exists(sentencepiece)) return LoadSentencePiece(sentencepiece, config);
  if (std::filesystem::exists(dir + "/vocab.json")) {
    return Unsupported(dir + "/vocab.json without tokenizer.json is not supported");
  }
  return MakeError(absl::StatusCode::kNotFound, kModelNotFound,
                   dir + ": no tokenizer.json and no tokenizer.model");
}

}  // namespace

struct Tokenizer::Impl {
  TokenizerPipeline pipeline;
};

absl::StatusOr<Tokenizer> Tokenizer::Load(const std::string& model_dir) {
  ASSIGN_OR_RETURN(TokenizerPipeline pipeline, LoadPipeline(model_dir));
  return Tokenizer(std::make_unique<Impl>(Impl{std::move(pipeline)}));
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::Encode(std::string_view text, bool add_special_tokens) const {
  return impl_->pipeline.Encode(text, add_special_tokens);
}

int64_t Tokenizer::vocab_size() const { return impl_->pipeline.vocab_size; }

}  // namespace svdllm
