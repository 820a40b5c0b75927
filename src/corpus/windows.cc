#include "corpus/windows.h"

#include <algorithm>
#include <vector>

#include "corpus/documents.h"
#include "corpus/encode.h"
#include "job/data_file.h"

namespace svdllm {
namespace {

absl::StatusOr<TextWindows> Cut(const PerplexitySpec& spec,
                                const std::vector<std::string>& documents,
                                const Tokenizer& tokenizer, const ModelConfig& config) {
  const std::string& path = spec.text.path;
  TextWindows data;
  data.name = spec.name;
  data.seq_len = spec.seq_len;
  const int64_t limit = spec.limit > 0 ? spec.limit : INT64_MAX;
  if (spec.text.packing == Packing::kDocuments) {
    RETURN_IF_ERROR(
        AppendDocuments(documents, 0, limit, spec.seq_len, tokenizer, config, path, data.windows)
            .status());
    return data;
  }
  ASSIGN_OR_RETURN(const JoinedText text,
                   EncodeJoined(documents, spec.window_start.value_or(WindowStart::kText),
                                spec.seq_len, tokenizer, config, path));
  data.window_start = text.window_start();
  const int64_t total = std::ssize(text.ids);
  const int64_t length = std::min(text.length, total);
  // A window of one token predicts nothing.
  const bool predicts = total > 0 && total + std::ssize(text.start) > 1;
  const int64_t whole = predicts ? total / length : 0;
  for (int64_t i = 0; i < std::min(whole, limit); ++i) {
    text.AppendWindow(i * length, length, data.windows);
  }
  data.leftover_tokens = total - whole * length;
  return data;
}

absl::Status TooFew(const PerplexitySpec& spec) {
  return MakeError(absl::StatusCode::kInvalidArgument, kDatasetInvalid,
                   spec.text.path + ": fewer than two tokens");
}

}  // namespace

absl::StatusOr<TextWindows> CutWindows(const PerplexitySpec& spec, const Tokenizer& tokenizer,
                                       const ModelConfig& config) {
  ASSIGN_OR_RETURN(const std::vector<std::string> documents, LoadDocuments(spec.text));
  ASSIGN_OR_RETURN(TextWindows data, Cut(spec, documents, tokenizer, config));
  if (data.windows.count() == 0) return TooFew(spec);
  const std::string& uri = spec.text.uri.empty() ? spec.text.path : spec.text.uri;
  ASSIGN_OR_RETURN(data.data, DataFileOf(uri, spec.text.path));
  return data;
}

absl::Status CheckWindows(const PerplexitySpec& spec, int64_t read_bytes,
                          const Tokenizer& tokenizer, const ModelConfig& config) {
  constexpr int64_t kTokenisedBytes = int64_t{64} << 10;
  ASSIGN_OR_RETURN(const FirstDocuments first,
                   LoadFirstDocuments(spec.text, kTokenisedBytes, read_bytes));
  ASSIGN_OR_RETURN(const TextWindows data, Cut(spec, first.documents, tokenizer, config));
  // Of a text whose beginning has none, the rest may have some.
  return data.windows.count() == 0 && first.whole() ? TooFew(spec) : absl::OkStatus();
}

}  // namespace svdllm
