// tokenizer.json, the file of Hugging Face's tokenizers.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "base/status.h"
#include "tokenizer/config.h"
#include "tokenizer/pipeline.h"

namespace svdllm {

// Loads the file at path. UNIMPLEMENTED with UNSUPPORTED_TOKENIZER, naming the component, for one
// that is not known here; INVALID_ARGUMENT with MODEL_CORRUPT and the file's name for a malformed
// file.
absl::StatusOr<TokenizerPipeline> LoadTokenizerJson(const std::string& path,
                                                    const TokenizerConfig& config);
// These do the same for a file's text and for its parsed content. Errors call the file `name`.
absl::StatusOr<TokenizerPipeline> ParseTokenizerJson(const std::string& text,
                                                     const TokenizerConfig& config,
                                                     const std::string& name);
absl::StatusOr<TokenizerPipeline> BuildTokenizer(const nlohmann::json& file,
                                                 const TokenizerConfig& config,
                                                 const std::string& name);

}  // namespace svdllm
