// Text to sequences of token ids.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "job/spec.h"
#include "model/sequences.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {

// The documents of a text. DATASET_INVALID, naming file and line, where it is absent, empty, not
// UTF-8 JSON where JSON is announced, or lacks the field.
absl::StatusOr<std::vector<std::string>> LoadDocuments(const TextSource& source);

// What a perplexity is measured on.
struct TextWindows {
  std::string name;
  Sequences windows;
  int64_t leftover_tokens = 0;  // behind the last whole window
  bool held_out = false;        // of a calibration text
};

struct CalibrationData {
  Sequences calibration;  // source by source
  // A text source each, named after kHeldOutName: windows that are not in calibration. Sources with
  // too little text, and model samples, have none.
  std::vector<TextWindows> held_out;
};

// Text of the model's own: count sequences of seq_len tokens, the same for the same seed.
using ModelSampler =
    std::function<absl::StatusOr<Sequences>(int64_t count, int64_t seq_len, uint64_t seed)>;

// How many of the samples each source gives: in proportion to its weight by largest remainders, and
// at least one. At least as many samples as sources; weights above 0.
std::vector<int64_t> SplitSamples(int64_t samples, const std::vector<CalibrationSource>& sources);

// Of each source its share of the samples. kConcatenated: sequences of exactly seq_len tokens,
// their starts drawn by seed + the source's number from the text but for its end, of which up to
// held_out windows stay out. kDocuments: documents from first_document on, and up to 4 · held_out
// of those behind them. Model samples: what sampler gives for that seed; it is called for those
// only. CALIBRATION_INVALID, naming the text, where a text does not give one sequence.
absl::StatusOr<CalibrationData> DrawCalibration(const CalibrationSpec& spec, int64_t held_out,
                                                const Tokenizer& tokenizer,
                                                const ModelSampler& sampler = {});

// kConcatenated: non-overlapping windows of seq_len tokens; a text shorter than one window is one
// window. kDocuments: a document a window, cut at seq_len. limit windows at most where limit > 0.
absl::StatusOr<TextWindows> CutWindows(const PerplexitySpec& spec, const Tokenizer& tokenizer);

}  // namespace svdllm
