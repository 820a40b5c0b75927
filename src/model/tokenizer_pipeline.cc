#include "model/tokenizer_pipeline.h"

#include <algorithm>
#include <string>

#include "model/unicode_text.h"

namespace svdllm {
namespace {

constexpr std::string_view kSpacePiece = "\xe2\x96\x81";  // U+2581

// One call of Encode.
class Run {
 public:
  explicit Run(const TokenizerPipeline& pipeline) : pipeline_(pipeline) {}

  std::vector<int32_t> Text(std::string_view text) {
    for (const auto& part : pipeline_.added.Split(text)) {
      const bool at_start = part.text.data() == text.data();
      if (part.id >= 0) {
        ids_.push_back(part.id);
      } else if (const auto* pieces = std::get_if<SentencePieceModel>(&pipeline_.model)) {
        pieces->Encode(part.text, &seen_pieces_, &ids_);
      } else {
        Normalized(part.text, at_start);
      }
    }
    return std::move(ids_);
  }

 private:
  void Normalized(std::string_view part, bool at_start) {
    std::string_view text = part;
    if (!pipeline_.normalizer.empty()) {
      text = storage_.emplace_back(ApplyNormalizer(pipeline_.normalizer, part));
    }
    for (const auto& inner : pipeline_.normalized_added.Split(text)) {
      if (inner.id >= 0) {
        ids_.push_back(inner.id);
      } else {
        Segment(inner.text, at_start && inner.text.data() == text.data());
      }
    }
  }

  void Segment(std::string_view text, bool at_start) {
    const auto& tokenizer = std::get<WordTokenizer>(pipeline_.model);
    std::vector<Word> words = {{text, at_start}};
    for (const auto& step : tokenizer.pre_tokenizer) ApplyPreTokenizer(step, &words, &storage_);
    for (const Word& word : words) tokenizer.model.Encode(word.text, &scratch_, &ids_);
  }

  const TokenizerPipeline& pipeline_;
  WordStorage storage_;
  BpeModel::Scratch scratch_;
  SentencePieceModel::Seen seen_pieces_;
  std::vector<int32_t> ids_;
};

}  // namespace

std::vector<int32_t> TokenizerPipeline::Encode(std::string_view text,
                                               bool add_special_tokens) const {
  std::string valid = ToValidUtf8(text);
  if (llama_rewrite && !valid.empty()) {
    valid = ReplaceAll(valid, kSpacePiece, " ");
    if (llama_prefix) valid.insert(0, kSpacePiece);
  }
  std::vector<int32_t> ids = Run(*this).Text(valid);
  if (llama_rewrite && ids.size() > 1 && ids[0] == llama_space_id &&
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
