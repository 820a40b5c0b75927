#include "tokenizer/pipeline.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/utf8.h"

namespace svdllm {
namespace {

constexpr std::string_view kSpacePiece = "\xe2\x96\x81";  // U+2581

// One call of Encode.
class Run {
 public:
  explicit Run(const TokenizerPipeline& pipeline) : pipeline_(pipeline) {}

  absl::StatusOr<std::vector<int32_t>> Text(std::string_view text) {
    for (const auto& part : pipeline_.added.Split(text)) {
      const bool at_start = part.text.data() == text.data();
      if (part.id >= 0) {
        if (ids_.size() == 1) second_is_added_ = true;
        ids_.push_back(part.id);
      } else if (const auto* pieces = std::get_if<SentencePieceModel>(&pipeline_.model)) {
        RETURN_IF_ERROR(pieces->Encode(part.text, &seen_pieces_, &ids_));
      } else {
        RETURN_IF_ERROR(Normalized(part.text, at_start));
      }
    }
    return std::move(ids_);
  }

  // The second id is that of a token found in the text: not of a piece, known or not.
  bool second_is_added() const { return second_is_added_; }

 private:
  absl::Status Normalized(std::string_view part, bool at_start) {
    std::string_view text = part;
    if (!pipeline_.normalizer.empty()) {
      ASSIGN_OR_RETURN(std::string normalized, ApplyNormalizer(pipeline_.normalizer, part));
      text = storage_.emplace_back(std::move(normalized));
    }
    for (const auto& inner : pipeline_.normalized_added.Split(text)) {
      if (inner.id >= 0) {
        ids_.push_back(inner.id);
      } else {
        RETURN_IF_ERROR(Segment(inner.text, at_start && inner.text.data() == text.data()));
      }
    }
    return absl::OkStatus();
  }

  absl::Status Segment(std::string_view text, bool at_start) {
    const auto& tokenizer = std::get<WordTokenizer>(pipeline_.model);
    std::vector<Word> words = {{text, at_start}};
    for (const auto& step : tokenizer.pre_tokenizer) {
      RETURN_IF_ERROR(ApplyPreTokenizer(step, &words, &storage_));
    }
    for (const Word& word : words) tokenizer.model.Encode(word.text, &scratch_, &ids_);
    return absl::OkStatus();
  }

  const TokenizerPipeline& pipeline_;
  WordStorage storage_;
  BpeModel::Scratch scratch_;
  SentencePieceModel::Seen seen_pieces_;
  std::vector<int32_t> ids_;
  bool second_is_added_ = false;
};

// transformers' LlamaTokenizer, one run of tokens between added ones.
std::string DecodeLlamaRun(const TokenizerPipeline& pipeline, const SentencePieceModel& model,
                           std::vector<const TokenInfo*> run) {
  std::string out;
  std::vector<std::string> pieces;
  bool after_special = false;
  for (size_t i = 0; i < run.size(); ++i) {
    std::string_view text = run[i]->text;
    if (i == 0 && pipeline.llama_strip && text.starts_with(kSpacePiece)) {
      text.remove_prefix(kSpacePiece.size());
    }
    if (run[i]->special) {
      if (!after_special && i != 0 && pipeline.llama_legacy) out += " ";
      out += model.Decode(pieces);
      out += text;
      pieces.clear();
      after_special = true;
      continue;
    }
    if (after_special && i == 1 && pipeline.llama_strip && !text.starts_with(kSpacePiece)) {
      out += " ";
    }
    pieces.emplace_back(text);
    after_special = false;
  }
  return out + model.Decode(pieces);
}

std::string DecodeLlama(const TokenizerPipeline& pipeline, const SentencePieceModel& model,
                        const std::vector<const TokenInfo*>& tokens) {
  std::string out;
  bool first = true;
  const auto append = [&](const std::string& text) {
    if (!std::exchange(first, false)) out += " ";
    out += text;
  };
  std::vector<const TokenInfo*> run;
  for (const TokenInfo* token : tokens) {
    if (!token->apart) {
      run.push_back(token);
      continue;
    }
    if (!run.empty()) {
      const std::string text = DecodeLlamaRun(pipeline, model, std::exchange(run, {}));
      if (!text.empty()) append(text);
    }
    append(token->text);
  }
  if (!run.empty()) append(DecodeLlamaRun(pipeline, model, run));
  return out;
}

}  // namespace

void TokenizerPipeline::SetToken(int32_t id, TokenInfo info) {
  const auto index = static_cast<size_t>(id);
  if (index >= tokens.size()) tokens.resize(index + 1);
  tokens[index] = std::move(info);
  tokens[index].exists = true;
}

std::string TokenizerPipeline::Decode(std::span<const int32_t> ids,
                                      bool skip_special_tokens) const {
  std::vector<const TokenInfo*> known;
  for (const int32_t id : ids) {
    if (id < 0 || static_cast<size_t>(id) >= tokens.size()) continue;
    const TokenInfo& token = tokens[static_cast<size_t>(id)];
    if (token.exists && !(skip_special_tokens && token.special)) known.push_back(&token);
  }
  if (const auto* pieces = std::get_if<SentencePieceModel>(&model)) {
    return DecodeLlama(*this, *pieces, known);
  }
  const auto& decoder = std::get<WordTokenizer>(model).decoder;
  std::vector<std::string> texts;
  texts.reserve(known.size());
  for (const TokenInfo* token : known) {
    texts.push_back(!decoder && !texts.empty() ? " " + token->text : token->text);
  }
  return ApplyDecoder(decoder.value_or(std::vector<DecoderStep>()), std::move(texts));
}

std::optional<int32_t> TokenizerPipeline::IdOf(std::string_view token) const {
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].exists && tokens[id].text == token) return static_cast<int32_t>(id);
  }
  return std::nullopt;
}

absl::StatusOr<std::vector<int32_t>> TokenizerPipeline::Encode(std::string_view text,
                                                               bool add_special_tokens) const {
  std::string valid = ToValidUtf8(text);
  if (llama_rewrite && !valid.empty()) {
    valid = ReplaceAll(valid, kSpacePiece, " ");
    if (llama_prefix) valid.insert(0, kSpacePiece);
  }
  Run run(*this);
  ASSIGN_OR_RETURN(std::vector<int32_t> ids, run.Text(valid));
  if (llama_rewrite && run.second_is_added() && ids[0] == llama_space_id &&
      std::find(special_ids.begin(), special_ids.end(), ids[1]) != special_ids.end()) {
    ids.erase(ids.begin());
  }
  if (add_special_tokens) {
    ids.insert(ids.begin(), prefix.begin(), prefix.end());
    ids.insert(ids.end(), suffix.begin(), suffix.end());
  }
  return ids;
}

}  // namespace svdllm
