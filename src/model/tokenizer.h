// Text to token ids, equal id for id to the checkpoint's reference tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace svdllm {

// A loaded tokenizer. Immutable: Encode may be called from several threads at once.
class Tokenizer {
 public:
  // Reads what a Hugging Face directory holds: tokenizer.json (byte-level BPE, or
  // SentencePiece-like BPE) or tokenizer.model (SentencePiece), with tokenizer_config.json,
  // special_tokens_map.json and added_tokens.json where present. NOT_FOUND where none is there;
  // UNIMPLEMENTED with reason UNSUPPORTED_TOKENIZER, naming the component, for one that cannot be
  // matched exactly.
  static absl::StatusOr<Tokenizer> Load(const std::string& model_dir);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // The ids of text; added and special tokens written out in the text are recognised, as the
  // reference does. add_special_tokens adds what the reference's post-processor adds (usually one
  // BOS in front). Invalid UTF-8 is replaced by U+FFFD first.
  std::vector<int32_t> Encode(std::string_view text, bool add_special_tokens) const;

  // Number of ids, added tokens included; every id that Encode returns is below it.
  int64_t vocab_size() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace svdllm
