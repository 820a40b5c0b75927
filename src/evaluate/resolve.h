// What lengths of 0 mean for a model.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "job/spec.h"

namespace svdllm {

// Returns the length; 0 becomes the default for this model. A length beyond the model's positions
// is INVALID_ARGUMENT, with `what` in the message.
absl::StatusOr<int64_t> ResolveSeqLen(int64_t seq_len, const ModelConfig& config,
                                      const std::string& what);

// Does that for every text of an evaluation.
absl::StatusOr<std::vector<PerplexitySpec>> ResolveSeqLens(std::vector<PerplexitySpec> texts,
                                                           const ModelConfig& config);

}  // namespace svdllm
