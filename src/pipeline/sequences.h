// Text to sequences of token ids.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/tokenizer.h"
#include "pipeline/job_spec.h"

namespace svdllm {

// Sequences one after the other: sequence s is ids[offsets[s] .. offsets[s + 1]).
struct Sequences {
  std::vector<int32_t> ids;
  std::vector<int64_t> offsets = {0};

  int64_t count() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t tokens() const { return offsets.back(); }
  void Append(std::span<const int32_t> sequence);
};

// The documents of a text. DATASET_INVALID, naming file and line, where it is absent, empty, not
// UTF-8 JSON where JSON is announced, or lacks the field.
absl::StatusOr<std::vector<std::string>> LoadDocuments(const TextSource& source);

struct CalibrationData {
  Sequences calibration;
  Sequences held_out;  // of the same text, not in calibration; empty where there is too little
};

// kConcatenated: samples sequences of exactly seq_len tokens, their starts drawn by seed from the
// text but for its end, of which up to held_out windows stay out. kDocuments: samples documents
// from first_document on, and up to 4 · held_out of those behind them. CALIBRATION_INVALID where
// the text does not give one sequence.
absl::StatusOr<CalibrationData> DrawCalibration(const CalibrationSpec& spec, int64_t held_out,
                                                const Tokenizer& tokenizer);

struct EvaluationData {
  Sequences windows;
  int64_t leftover_tokens = 0;  // behind the last whole window
};

// kConcatenated: non-overlapping windows of seq_len tokens; a text shorter than one window is one
// window. kDocuments: a document a window, cut at seq_len. limit windows at most where limit > 0.
absl::StatusOr<EvaluationData> CutWindows(const PerplexitySpec& spec, const Tokenizer& tokenizer);

}  // namespace svdllm
