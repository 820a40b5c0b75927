// Texts as token ids that a model has.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/config.h"
#include "model/sequences.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {

// MODEL_CORRUPT where the model has no embedding for one of the ids: "where: the token '<|im_end|>'
// has the id 32001, …". Ids are those of this tokenizer.
absl::Status CheckTokens(std::span<const int32_t> ids, const Tokenizer& tokenizer,
                         const ModelConfig& config, const std::string& where);

// The documents joined by blank lines, as one list of ids (Packing::kConcatenated). The errors of
// CheckTokens, with where in front.
absl::StatusOr<std::vector<int32_t>> EncodeJoined(const std::vector<std::string>& documents,
                                                  const Tokenizer& tokenizer,
                                                  const ModelConfig& config,
                                                  const std::string& where);

// Appends documents from first on, each cut at seq_len tokens (Packing::kDocuments), until there
// are count sequences; those of fewer than two tokens are passed over. Returns the first document
// behind those that were read. The errors of CheckTokens, with where in front.
absl::StatusOr<size_t> AppendDocuments(const std::vector<std::string>& documents, size_t first,
                                       int64_t count, int64_t seq_len, const Tokenizer& tokenizer,
                                       const ModelConfig& config, const std::string& where,
                                       Sequences& sequences);

}  // namespace svdllm
