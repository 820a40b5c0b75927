// tokenizer_config.json, special_tokens_map.json and added_tokens.json: what a Hugging Face
// directory says about a tokenizer beside the tokenizer's own file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "tokenizer/added.h"

namespace svdllm {

struct TokenizerConfig {
  std::string tokenizer_class;  // without "Fast"; empty where not given
  std::optional<bool> add_bos_token, add_eos_token, legacy, add_prefix_space;
  // As given, or as the class has them by default. None where there is neither, or where it is
  // null.
  std::optional<std::string> bos_token, eos_token, unk_token;
  // In order of id. Tokens that special_tokens_map.json writes as strings have no id (−1).
  std::vector<AddedToken> added_tokens;
  // bos, eos, unk and so on, as far as they are given, and additional_special_tokens.
  std::vector<AddedToken> special_tokens;

  bool IsLlama() const { return tokenizer_class == "LlamaTokenizer"; }
  // Whether the class puts bos_token (unless add_bos_token says no) and eos_token (where
  // add_eos_token says yes) around a text, whatever tokenizer.json says.
  bool ReplacesTemplate() const {
    return IsLlama() || tokenizer_class == "CodeLlamaTokenizer" ||
           tokenizer_class == "GemmaTokenizer";
  }
};

// Reads one of a tokenizer's files. Errors have a reason: MODEL_NOT_FOUND where there is none,
// MODEL_CORRUPT where it cannot be read.
absl::StatusOr<std::string> ReadTokenizerFile(const std::string& path);

// Reads what is there; missing files are no error. INVALID_ARGUMENT with MODEL_CORRUPT and the
// file's name for malformed ones.
absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& model_dir);
// Reads the text of a tokenizer_config.json alone. Errors call it `name`.
absl::StatusOr<TokenizerConfig> ParseTokenizerConfig(const std::string& text,
                                                     const std::string& name);

}  // namespace svdllm
