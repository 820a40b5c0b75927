// Texts as token ids that a model has.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "job/spec.h"
#include "model/sequences.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {

// MODEL_CORRUPT where the model has no embedding for one of the ids: "where: the token '<|im_end|>'
// has the id 32001, …". Ids are those of this tokenizer.
absl::Status CheckTokens(std::span<const int32_t> ids, const Tokenizer& tokenizer,
                         const ModelConfig& config, const std::string& where);

// Documents as one text that windows are cut from (Packing::kConcatenated).
struct JoinedText {
  std::vector<int32_t> ids;
  std::vector<int32_t> start;  // in front of each window's ids; empty with WindowStart::kText
  int64_t length = 0;          // of a whole window, how many of its tokens are ids of the text

  // kText too where the tokenizer puts nothing in front of a text.
  WindowStart window_start() const {
    return start.empty() ? WindowStart::kText : WindowStart::kWindow;
  }
  // Appends the window of these ids of the text.
  void AppendWindow(int64_t begin, int64_t count, Sequences& sequences) const;
};

// The documents joined by blank lines, for windows of seq_len tokens: seq_len 8, with one token in
// front of each, leaves 7 for the text. The errors of CheckTokens, with where in front;
// INVALID_FIELD where nothing is left for the text.
absl::StatusOr<JoinedText> EncodeJoined(const std::vector<std::string>& documents,
                                        WindowStart window_start, int64_t seq_len,
                                        const Tokenizer& tokenizer, const ModelConfig& config,
                                        const std::string& where);

// Appends documents from first on, each cut at seq_len tokens (Packing::kDocuments), until there
// are count sequences; those of fewer than two tokens are passed over. Returns the first document
// behind those that were read. The errors of CheckTokens, with where in front.
absl::StatusOr<size_t> AppendDocuments(const std::vector<std::string>& documents, size_t first,
                                       int64_t count, int64_t seq_len, const Tokenizer& tokenizer,
                                       const ModelConfig& config, const std::string& where,
                                       Sequences& sequences);

}  // namespace svdllm
