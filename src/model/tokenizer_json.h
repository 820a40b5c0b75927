// tokenizer.json, the file of Hugging Face's tokenizers.
#pragma once

#include <string>

#include "base/status.h"
#include "model/tokenizer_config.h"
#include "model/tokenizer_pipeline.h"

namespace svdllm {

// UNIMPLEMENTED with UNSUPPORTED_TOKENIZER naming the component that is not known here;
// INVALID_ARGUMENT with MODEL_CORRUPT and the file's name for a malformed file.
absl::StatusOr<TokenizerPipeline> LoadTokenizerJson(const std::string& path,
                                                    const TokenizerConfig& config);

}  // namespace svdllm
