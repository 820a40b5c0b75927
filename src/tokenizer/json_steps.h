// The normalizer, pre_tokenizer and decoder of a tokenizer.json, turned into steps.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "tokenizer/decode.h"
#include "tokenizer/steps.h"

namespace svdllm {

// UNIMPLEMENTED with reason UNSUPPORTED_TOKENIZER: "<part> <type> is not supported".
absl::Status UnsupportedComponent(std::string_view part, std::string_view type);

// Append the steps of a component, which may be null. Errors are UnsupportedComponent and those of
// Regex. A missing or wrongly typed field throws nlohmann::json::exception.
absl::Status ParseNormalizer(const nlohmann::json& component, std::vector<NormalizerStep>* steps);
absl::Status ParsePreTokenizer(const nlohmann::json& component,
                               std::vector<PreTokenizerStep>* steps);
absl::Status ParseDecoder(const nlohmann::json& component, std::vector<DecoderStep>* steps);

}  // namespace svdllm
