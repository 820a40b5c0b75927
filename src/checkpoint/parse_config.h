// config.json, checked and turned into plain values.
#pragma once

#include <string>

#include "base/status.h"
#include "checkpoint/config.h"

namespace svdllm {

// Parses the text of a config.json, in the spelling of transformers 4 or 5; what is not given is
// what transformers takes for the family. Errors name the key. UNIMPLEMENTED with reason
// UNSUPPORTED_ARCHITECTURE and the list of known families for an unknown model_type, activation or
// rope scaling, for architectures that are no causal language models, and for every other key that
// transformers reads and that would change what is computed;
// INVALID_ARGUMENT with MODEL_CORRUPT for missing, wrongly typed or impossible values (sizes ≤ 0 or
// absurd, heads not divisible by kv heads, odd head_dim).
absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& json_text);

}  // namespace svdllm
