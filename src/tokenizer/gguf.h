// The tokenizer in a GGUF file's metadata, in the words of Hugging Face's files.
#pragma once

#include <map>
#include <string>

#include "base/status.h"
#include "formats/gguf.h"

namespace svdllm {

// Returns tokenizer.json, tokenizer_config.json and generation_config.json by name. UNIMPLEMENTED
// with UNSUPPORTED_TOKENIZER, naming the key, for a tokenizer that cannot be matched exactly.
absl::StatusOr<std::map<std::string, std::string>> GgufTokenizerFiles(const GgufFile& file);

}  // namespace svdllm
