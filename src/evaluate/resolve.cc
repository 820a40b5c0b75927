#include "evaluate/resolve.h"

#include <algorithm>

namespace svdllm {

namespace {

constexpr int64_t kDefaultSeqLen = 2048;

}  // namespace

absl::StatusOr<int64_t> ResolveSeqLen(int64_t seq_len, const ModelConfig& config,
                                      const std::string& what) {
  // Dynamic scaling is made for longer texts than the model was trained on.
  const int64_t most =
      config.rope.kind == RopeKind::kDynamic ? INT64_MAX : config.max_position_embeddings;
  if (seq_len == 0) return std::min(kDefaultSeqLen, most);
  if (seq_len < 2) return InvalidField(what + ": " + std::to_string(seq_len) + " is less than 2");
  if (seq_len > most) {
    return InvalidField(what + ": " + std::to_string(seq_len) +
                        " is more than the model's max_position_embeddings, " +
                        std::to_string(most));
  }
  return seq_len;
}

std::optional<WindowStart> ResolveWindowStart(std::optional<WindowStart> asked, bool has_windows,
                                              const ModelConfig& config) {
  if (!has_windows) return std::nullopt;
  return asked.value_or(config.needs_start ? WindowStart::kWindow : WindowStart::kText);
}

absl::StatusOr<std::vector<PerplexitySpec>> ResolveTexts(std::vector<PerplexitySpec> texts,
                                                         const ModelConfig& config,
                                                         const std::string& where) {
  for (PerplexitySpec& text : texts) {
    ASSIGN_OR_RETURN(text.seq_len,
                     ResolveSeqLen(text.seq_len, config, where + text.name + ": seq_len"));
    text.window_start =
        ResolveWindowStart(text.window_start, text.text.packing == Packing::kConcatenated, config);
  }
  return texts;
}

}  // namespace svdllm
