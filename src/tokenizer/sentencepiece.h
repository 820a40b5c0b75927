// tokenizer.model: SentencePiece, used as transformers' LlamaTokenizer uses it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"
#include "tokenizer/sentencepiece_proto.h"

namespace svdllm {

class SentencePieceProcessor;

// Immutable and thread-safe.
class SentencePieceModel {
 public:
  // serialized is the file's content. With legacy, the model's own settings decide whether every
  // text gets a space in front; without, texts are taken as they are. MODEL_CORRUPT where the
  // content is not a model, UNSUPPORTED_TOKENIZER where this installation has no SentencePiece.
  static absl::StatusOr<SentencePieceModel> Parse(std::string serialized, bool legacy,
                                                  const std::string& unk_token);
  SentencePieceModel(SentencePieceModel&&) noexcept;
  SentencePieceModel& operator=(SentencePieceModel&&) noexcept;
  ~SentencePieceModel();

  // The places [first, second) in the output of the words seen so far. One per output, not
  // thread-safe.
  using Seen = std::unordered_map<std::string_view, std::pair<size_t, size_t>>;
  // Appends the ids of text, which must outlive seen. UNIMPLEMENTED with reason
  // UNSUPPORTED_TOKENIZER where SentencePiece gives up.
  absl::Status Encode(std::string_view text, Seen* seen, std::vector<int32_t>* ids) const;
  // Returns −1 where there is no such piece.
  int32_t Find(std::string_view piece) const;
  int32_t size() const;
  // id is in [0, size).
  std::string Piece(int32_t id) const;
  // Returns the text of pieces. Pieces that are not the model's stay as they are.
  std::string Decode(const std::vector<std::string>& pieces) const;

 private:
  SentencePieceModel();
  absl::Status EncodeWhole(std::string_view text, std::vector<int32_t>* ids) const;

  SentencePieceProto proto_;
  std::unique_ptr<SentencePieceProcessor> processor_;
  bool legacy_ = true;
  std::string unk_token_;
  size_t unk_token_length_ = 0;
  // No piece reaches across the start of a word, so words may be encoded one by one. That is many
  // times faster than SentencePiece's own way with a long text.
  bool by_word_ = false;
  bool add_dummy_prefix_ = false;  // we add it, where by_word_
};

}  // namespace svdllm
