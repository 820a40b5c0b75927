// From text to sequences of token ids.
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

// Returns the documents of a text. DATASET_INVALID, naming file and line, where it is absent,
// empty, not UTF-8, not JSON where JSON is announced, or without the field.
absl::StatusOr<std::vector<std::string>> LoadDocuments(const TextSource& source);

// What a perplexity is measured on.
struct TextWindows {
  std::string name;
  Sequences windows;
  int64_t leftover_tokens = 0;  // behind the last whole window
  bool held_out = false;        // cut from a calibration text
};

struct CalibrationData {
  Sequences calibration;  // the sequences of the first source first
  // One per text source, named after kHeldOutName: windows that are not in calibration. Sources
  // with too little text, and model samples, have none.
  std::vector<TextWindows> held_out;
};

// Makes text of the model's own: count sequences of seq_len tokens, the same for the same seed.
using ModelSampler =
    std::function<absl::StatusOr<Sequences>(int64_t count, int64_t seq_len, uint64_t seed)>;

// Returns how many of the samples each source gives: in proportion to its weight by largest
// remainders, and at least one. There are at least as many samples as sources, and weights are
// above 0. 10 samples over weights {3, 1} are {8, 2}: the remainders are equal, and the first
// source gets the last sample.
std::vector<int64_t> SplitSamples(int64_t samples, const std::vector<CalibrationSource>& sources);

// Draws from each source its share of the samples. CALIBRATION_INVALID, naming the text, where a
// text does not give one sequence.
// kConcatenated: sequences of exactly seq_len tokens, their starts drawn by seed + the source's
// number. The end of the text is left out of the draw, and up to held_out windows of it stay for
// measuring. kDocuments: documents from first_document on, and up to 4 · held_out of those behind
// them to measure on. Model samples: what sampler gives for that seed; it is called for those only.
absl::StatusOr<CalibrationData> DrawCalibration(const CalibrationSpec& spec, int64_t held_out,
                                                const Tokenizer& tokenizer,
                                                const ModelSampler& sampler = {});

// Cuts a text into windows, at most limit of them where limit > 0. kConcatenated: non-overlapping
// windows of seq_len tokens; a text shorter than one window is one window. kDocuments: one window
// per document, cut at seq_len.
absl::StatusOr<TextWindows> CutWindows(const PerplexitySpec& spec, const Tokenizer& tokenizer);

}  // namespace svdllm
