#include "tokenizer/vocab_merges.h"

#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/json.h"

namespace svdllm {
namespace {

using nlohmann::json;

// One "left right" a line, after a line that tells the version.
json ParseMerges(std::string_view text) {
  constexpr std::string_view kSpaces = " \t\r\v\f";
  json merges = json::array();
  for (size_t pos = 0; pos < text.size();) {
    const size_t end = std::min(text.find('\n', pos), text.size());
    std::string_view line = text.substr(pos, end - pos);
    const bool version = pos == 0 && line.starts_with("#version");
    pos = end + 1;
    const size_t first = line.find_first_not_of(kSpaces);
    if (version || first == line.npos) continue;
    line = line.substr(first, line.find_last_not_of(kSpaces) + 1 - first);
    merges.push_back(std::string(line));
  }
  return merges;
}

}  // namespace

absl::StatusOr<TokenizerPipeline> LoadVocabMerges(const std::string& dir,
                                                  const TokenizerConfig& config) {
  const std::string vocab_path = dir + "/vocab.json";
  const std::string merges_path = dir + "/merges.txt";
  const bool qwen2 = config.tokenizer_class == "Qwen2Tokenizer";
  if (!qwen2 && config.tokenizer_class != "GPT2Tokenizer") {
    return MakeError(absl::StatusCode::kUnimplemented, kUnsupportedTokenizer,
                     vocab_path + ": tokenizer_class " + config.tokenizer_class +
                         " is not supported (supported: GPT2Tokenizer, Qwen2Tokenizer)");
  }
  ASSIGN_OR_RETURN(const std::string vocab_text, ReadTokenizerFile(vocab_path));
  ASSIGN_OR_RETURN(const std::string merges_text, ReadTokenizerFile(merges_path));
  absl::StatusOr<json> vocab = ParseJson(vocab_text);
  if (!vocab.ok() || !vocab->is_object()) {
    return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                     vocab_path + ": not a JSON object");
  }
  const json file =
      ByteLevelTokenizerJson(*FindByteLevelKind(qwen2 ? "qwen2" : "gpt-2"), *std::move(vocab),
                             ParseMerges(merges_text), config.add_prefix_space.value_or(false));
  ASSIGN_OR_RETURN(TokenizerPipeline out,
                   BuildTokenizer(file, config, vocab_path + " and merges.txt"));
  if (!qwen2 && config.add_bos_token.value_or(false)) {
    if (!out.bos_id) {
      return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                       dir + "/tokenizer_config.json: add_bos_token without a bos_token");
    }
    out.prefix.push_back(*out.bos_id);
  }
  return out;
}

}  // namespace svdllm
