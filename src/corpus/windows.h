// What a perplexity is measured on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "checkpoint/config.h"
#include "job/result.h"
#include "job/spec.h"
#include "model/sequences.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {

struct TextWindows {
  std::string name;
  Sequences windows;
  int64_t leftover_tokens = 0;                   // behind the last whole window
  bool held_out = false;                         // of a calibration text
  int64_t seq_len = 0;                           // tokens per window, at most
  std::optional<WindowStart> window_start = {};  // as they begin; absent: they are documents
  DataFile data = {};                            // the text
};

// kConcatenated: windows of seq_len tokens whose parts of the text do not overlap, as the text and,
// where window_start says so, each window begins with what the tokenizer puts in front; a text
// shorter than one window is one window. kDocuments: a document a window, cut at seq_len. limit
// windows at most where limit > 0. The errors of LoadDocuments and EncodeJoined; DATASET_INVALID
// for fewer than two tokens.
absl::StatusOr<TextWindows> CutWindows(const PerplexitySpec& spec, const Tokenizer& tokenizer,
                                       const ModelConfig& config);

// The errors of CutWindows, as far as the first read_bytes of the text show them; only the
// beginning of these is tokenised.
absl::Status CheckWindows(const PerplexitySpec& spec, int64_t read_bytes,
                          const Tokenizer& tokenizer, const ModelConfig& config);

}  // namespace svdllm
