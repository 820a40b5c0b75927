// What lengths of 0 mean for a model.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "job/spec.h"

namespace svdllm {

// 0 becomes the default for this model; a length beyond the model's positions is INVALID_ARGUMENT.
absl::StatusOr<int64_t> ResolveSeqLen(int64_t seq_len, const ModelConfig& config,
                                      const std::string& what);

// The same for every text of an evaluation.
absl::StatusOr<std::vector<PerplexitySpec>> ResolveSeqLens(std::vector<PerplexitySpec> texts,
                                                           const ModelConfig& config);

}  // namespace svdllm
