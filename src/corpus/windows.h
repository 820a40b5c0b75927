// What a perplexity is measured on.
#pragma once

#include <cstdint>
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
  int64_t leftover_tokens = 0;  // behind the last whole window
  bool held_out = false;        // of a calibration text
  int64_t seq_len = 0;          // tokens per window at most
  DataFile data = {};           // the text
};

// kConcatenated: non-overlapping windows of seq_len tokens; a text shorter than one window is one
// window. kDocuments: a document a window, cut at seq_len. limit windows at most where limit > 0.
// The errors of LoadDocuments and, where the model (config) has no embedding for a token of the
// text, of CheckTokens.
absl::StatusOr<TextWindows> CutWindows(const PerplexitySpec& spec, const Tokenizer& tokenizer,
                                       const ModelConfig& config);

}  // namespace svdllm
