#include "corpus/windows.h"

#include <algorithm>
#include <span>
#include <vector>

#include "corpus/documents.h"
#include "corpus/encode.h"
#include "job/data_file.h"

namespace svdllm {

absl::StatusOr<TextWindows> CutWindows(const PerplexitySpec& spec, const Tokenizer& tokenizer,
                                       const ModelConfig& config) {
  const std::string& path = spec.text.path;
  ASSIGN_OR_RETURN(const std::vector<std::string> documents, LoadDocuments(spec.text));
  TextWindows data;
  data.name = spec.name;
  data.seq_len = spec.seq_len;
  ASSIGN_OR_RETURN(data.data, DescribeFile(path));
  const int64_t limit = spec.limit > 0 ? spec.limit : INT64_MAX;
  if (spec.text.packing == Packing::kDocuments) {
    RETURN_IF_ERROR(
        AppendDocuments(documents, 0, limit, spec.seq_len, tokenizer, config, path, data.windows)
            .status());
  } else {
    ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                     EncodeJoined(documents, tokenizer, config, path));
    const int64_t total = static_cast<int64_t>(ids.size());
    const int64_t length = std::min(spec.seq_len, total);
    const int64_t whole = total < 2 ? 0 : total / length;
    for (int64_t i = 0; i < std::min(whole, limit); ++i) {
      data.windows.Append(std::span<const int32_t>(ids).subspan(static_cast<size_t>(i * length),
                                                                static_cast<size_t>(length)));
    }
    data.leftover_tokens = total - whole * length;
  }
  if (data.windows.count() == 0) {
    return MakeError(absl::StatusCode::kInvalidArgument, kDatasetInvalid,
                     path + ": fewer than two tokens");
  }
  return data;
}

}  // namespace svdllm
