// From text to token ids, equal id for id to the checkpoint's reference tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace svdllm {

// A loaded tokenizer. Immutable: several threads may call Encode at once.
class Tokenizer {
 public:
  // Reads what a Hugging Face directory holds: tokenizer.json (byte-level BPE, or
  // SentencePiece-like BPE), tokenizer.model (SentencePiece, or LLaMA 3's ranks; also as
  // tokenizer.model.vN) or vocab.json with merges.txt, with tokenizer_config.json,
  // special_tokens_map.json and added_tokens.json where present. Or it reads a GGUF file, named or
  // alone in the directory, whose metadata holds all of that. NOT_FOUND where none is there.
  // UNIMPLEMENTED with reason UNSUPPORTED_TOKENIZER, naming the component, for one that cannot be
  // matched exactly.
  static absl::StatusOr<Tokenizer> Load(const std::string& model_dir);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Returns the ids of text. Added and special tokens that are written out in the text are
  // recognised, as the reference does. add_special_tokens adds what the reference's post-processor
  // adds, usually one BOS in front. Invalid UTF-8 is replaced by U+FFFD first. UNIMPLEMENTED with
  // reason UNSUPPORTED_TOKENIZER, naming the file and the limit, where its regular expressions take
  // more than PCRE2 is given, or where SentencePiece gives up.
  absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text, bool add_special_tokens) const;

  // Those that it puts in front, so the beginning of every Encode with special tokens. Valid as
  // long as the tokenizer.
  std::span<const int32_t> start_ids() const;

  // Returns the text of ids, as the reference's decode writes it without its clean-up. It is valid
  // UTF-8. Ids that no token has are passed over. skip_special_tokens leaves out BOS and the like.
  std::string Decode(std::span<const int32_t> ids, bool skip_special_tokens) const;

  // Returns the id of a token as the vocabulary spells it, such as "</s>". It looks through all of
  // them.
  std::optional<int32_t> IdOf(std::string_view token) const;
  // The ids of the tokens that the configuration names, or that the reference has by default for
  // the kind of tokenizer. None where neither names one.
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;

  // The number of ids, added tokens included. Every id that Encode returns is below it.
  int64_t vocab_size() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace svdllm
