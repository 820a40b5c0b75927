// What a compression is calibrated on: sequences drawn from texts, or written by the model itself.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "corpus/windows.h"
#include "job/data_file.h"
#include "job/spec.h"
#include "model/sequences.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {

// What one source really gives, which may be less than it was asked for.
struct SourceUse {
  int64_t documents = 0;  // that the text has, or that max_documents leaves of it; 0: no text
  int64_t sequences = 0;
  int64_t tokens = 0;  // of the sequences
  // Different tokens that they are drawn from: kConcatenated, the text without what is held out, of
  // which sequences overlap where tokens are more; else as many as tokens.
  int64_t available_tokens = 0;
  int64_t start_tokens = 0;  // of tokens, those that windows begin with (WindowStart::kWindow)

  // Of the tokens, those that are not surely repeated.
  int64_t different_tokens() const { return std::min(tokens - start_tokens, available_tokens); }
};

struct CalibrationData {
  Sequences calibration;  // source by source
  // A text source each, named after kHeldOutName: windows that are not in calibration. Sources with
  // too little text, and model samples, have none.
  std::vector<TextWindows> held_out;
  std::vector<SourceUse> sources;  // in the order of the spec's
  std::vector<DataFile> data;      // a text source each
  // As windows begin; absent where no text is kConcatenated.
  std::optional<WindowStart> window_start;
  // What is not as it was asked for, a sentence each, to be shown wherever the job's figures are:
  // sequences that overlap, fewer documents than samples, nothing left over to measure on, fewer
  // different tokens than the widest layer has inputs, windows that cannot begin as they should. A
  // text is named by its file's name.
  std::vector<std::string> warnings;
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
// only. Where no sequences are needed, none are drawn, and only the held-out windows are taken.
// config: of the model, whose tokenizer this is. CALIBRATION_INVALID, naming the text, where it
// cannot be read or does not give one sequence; MODEL_CORRUPT where the model lacks a token.
absl::StatusOr<CalibrationData> DrawCalibration(const CalibrationSpec& spec, int64_t held_out,
                                                const Tokenizer& tokenizer,
                                                const ModelConfig& config,
                                                const ModelSampler& sampler = {});

// What DrawCalibration would say of the same spec.
struct CalibrationCheck {
  std::vector<SourceUse> sources;     // expected
  std::vector<std::string> warnings;  // likewise
  // Texts were tokenised to their ends. Else figures, and what the warnings say, are extrapolated
  // from the beginning of a large text.
  bool exact = true;

  int64_t sequences() const;  // of all sources
};

// For a plan: the errors and warnings of DrawCalibration, found without drawing anything, in a
// second or so. All texts together are read up to kReadBytes, or each to kCheckedBytes where there
// are many; what is wrong behind that is not found. Of each, kCheckedBytes at most are tokenised,
// or more where these do not give one sequence.
absl::StatusOr<CalibrationCheck> CheckCalibration(const CalibrationSpec& spec, int64_t held_out,
                                                  const Tokenizer& tokenizer,
                                                  const ModelConfig& config);
inline constexpr int64_t kCheckedBytes = int64_t{4} << 20;
inline constexpr int64_t kReadBytes = int64_t{64} << 20;
// What is read of each of so many texts.
int64_t ReadBytesOf(size_t texts);

}  // namespace svdllm
