// vocab.json and merges.txt: the files of GPT-2's tokenizer, which OPT and Qwen2 use too.
#pragma once

#include <string>

#include "base/status.h"
#include "tokenizer/config.h"
#include "tokenizer/pipeline.h"

namespace svdllm {

// Reads them as transformers does for config's tokenizer_class (GPT2Tokenizer where it has none).
// UNIMPLEMENTED with UNSUPPORTED_TOKENIZER, naming it, for another class; INVALID_ARGUMENT with
// MODEL_CORRUPT and the file's name for malformed files.
absl::StatusOr<TokenizerPipeline> LoadVocabMerges(const std::string& dir,
                                                  const TokenizerConfig& config);

}  // namespace svdllm
