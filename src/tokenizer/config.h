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
  // As given, or as the class has them by default; none where neither, or null.
  std::optional<std::string> bos_token, eos_token, unk_token;
  // In order of id. Those written as strings in special_tokens have no id (−1).
  std::vector<AddedToken> added_tokens;
  // bos, eos, unk … as far as given, and additional_special_tokens.
  std::vector<AddedToken> special_tokens;

  bool IsLlama() const { return tokenizer_class == "LlamaTokenizer"; }
  // The class puts bos_token (unless add_bos_token says no) and eos_token (where add_eos_token says
  // so) around a text, whatever tokenizer.json says.
  bool ReplacesTemplate() const {
    return IsLlama() || tokenizer_class == "CodeLlamaTokenizer" ||
           tokenizer_class == "GemmaTokenizer";
  }
};

// Missing files are not an error. INVALID_ARGUMENT with MODEL_CORRUPT and the file's name for
// malformed ones.
absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& model_dir);
// The same of a tokenizer_config.json's text; errors call it name.
absl::StatusOr<TokenizerConfig> ParseTokenizerConfig(const std::string& text,
                                                     const std::string& name);

}  // namespace svdllm
