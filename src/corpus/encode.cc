#include "corpus/encode.h"

#include <algorithm>

#include "base/json.h"

namespace svdllm {

absl::Status CheckTokens(std::span<const int32_t> ids, const Tokenizer& tokenizer,
                         const ModelConfig& config, const std::string& where) {
  if (tokenizer.vocab_size() <= config.vocab_size) return absl::OkStatus();
  const auto bad = std::find_if(ids.begin(), ids.end(),
                                [&](int32_t id) { return id < 0 || id >= config.vocab_size; });
  if (bad == ids.end()) return absl::OkStatus();
  const std::string text = tokenizer.Decode(std::span(&*bad, 1), /*skip_special_tokens=*/false);
  return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                   where + ": the token '" + Printable(text) + "' has the id " +
                       std::to_string(*bad) + ", but the model has embeddings for ids below " +
                       std::to_string(config.vocab_size) +
                       " only: a token was added without embeddings for it, or the tokenizer is "
                       "another model's");
}

void JoinedText::AppendWindow(int64_t begin, int64_t count, Sequences& sequences) const {
  std::vector<int32_t> window = start;
  window.insert(window.end(), ids.begin() + begin, ids.begin() + begin + count);
  sequences.Append(window);
}

absl::StatusOr<JoinedText> EncodeJoined(const std::vector<std::string>& documents,
                                        WindowStart window_start, int64_t seq_len,
                                        const Tokenizer& tokenizer, const ModelConfig& config,
                                        const std::string& where) {
  std::string text;
  for (size_t i = 0; i < documents.size(); ++i) {
    if (i > 0) text += "\n\n";
    text += documents[i];
  }
  JoinedText joined;
  ASSIGN_OR_RETURN(joined.ids, tokenizer.Encode(text, /*add_special_tokens=*/true));
  RETURN_IF_ERROR(CheckTokens(joined.ids, tokenizer, config, where));
  if (window_start == WindowStart::kWindow) {
    const std::span<const int32_t> start = tokenizer.start_ids();
    joined.start.assign(start.begin(), start.end());
    joined.ids.erase(joined.ids.begin(), joined.ids.begin() + std::ssize(start));
  }
  joined.length = seq_len - std::ssize(joined.start);
  if (joined.length < 1) {
    return InvalidField(where + ": seq_len " + std::to_string(seq_len) +
                        " leaves no room behind the " + std::to_string(joined.start.size()) +
                        " tokens that a window begins with");
  }
  return joined;
}

absl::StatusOr<size_t> AppendDocuments(const std::vector<std::string>& documents, size_t first,
                                       int64_t count, int64_t seq_len, const Tokenizer& tokenizer,
                                       const ModelConfig& config, const std::string& where,
                                       Sequences& sequences) {
  size_t i = first;
  for (; i < documents.size() && sequences.count() < count; ++i) {
    ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                     tokenizer.Encode(documents[i], /*add_special_tokens=*/true));
    if (static_cast<int64_t>(ids.size()) > seq_len) ids.resize(static_cast<size_t>(seq_len));
    if (ids.size() < 2) continue;
    RETURN_IF_ERROR(CheckTokens(ids, tokenizer, config, where));
    sequences.Append(ids);
  }
  return i;
}

}  // namespace svdllm
