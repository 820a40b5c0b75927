// tokenizer_config.json, special_tokens_map.json and added_tokens.json: what a Hugging Face
// directory says about a tokenizer beside the tokenizer's own file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/tokenizer_added.h"

namespace svdllm {

struct TokenizerConfig {
  std::string tokenizer_class;  // without "Fast"; empty where not given
  std::optional<bool> add_bos_token, add_eos_token, legacy, add_prefix_space;
  std::string bos_token = "<s>", eos_token = "</s>", unk_token = "<unk>";
  // In order of id. Those written as strings in special_tokens have no id (−1).
  std::vector<AddedToken> added_tokens;
  // bos, eos, unk … as far as given, and additional_special_tokens.
  std::vector<AddedToken> special_tokens;

  bool IsLlama() const { return tokenizer_class == "LlamaTokenizer"; }
};

// Missing files are not an error. INVALID_ARGUMENT with MODEL_CORRUPT and the file's name for
// malformed ones.
absl::StatusOr<TokenizerConfig> ReadTokenizerConfig(const std::string& model_dir);

}  // namespace svdllm
