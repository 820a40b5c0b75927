// tokenizer.model of LLaMA 3 as Meta publishes it: lines with a base64 token and its rank.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "tokenizer/config.h"
#include "tokenizer/pipeline.h"

namespace svdllm {

bool IsRankFile(std::string_view content);

// Loads it with LLaMA 3's expression and special tokens, and with BOS in front unless config says
// otherwise. There are 256 special tokens after the ranks; config's added tokens take the place of
// those with the same ids. INVALID_ARGUMENT with MODEL_CORRUPT, naming path and the line, for a
// malformed file.
absl::StatusOr<TokenizerPipeline> LoadRanks(const std::string& path, std::string_view content,
                                            const TokenizerConfig& config);

}  // namespace svdllm
