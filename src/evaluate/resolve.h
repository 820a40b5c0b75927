// What is left open of windows, for a model.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "job/spec.h"

namespace svdllm {

// Returns the length; 0 becomes the default for this model. A length beyond the model's positions
// is INVALID_ARGUMENT, with `what` in the message.
absl::StatusOr<int64_t> ResolveSeqLen(int64_t seq_len, const ModelConfig& config,
                                      const std::string& what);

// How windows begin: as asked, else as the model's family needs it. Absent where nothing is cut
// into windows.
std::optional<WindowStart> ResolveWindowStart(std::optional<WindowStart> asked, bool has_windows,
                                              const ModelConfig& config);

// Does both for every text; `where` stands in front of a text's name.
absl::StatusOr<std::vector<PerplexitySpec>> ResolveTexts(std::vector<PerplexitySpec> texts,
                                                         const ModelConfig& config,
                                                         const std::string& where = "");

}  // namespace svdllm
