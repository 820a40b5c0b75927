// The documents of a text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "job/spec.h"

namespace svdllm {

// DATASET_INVALID, naming file and place: the errors of ReadTextFile (text/text_file.h) and of
// ReadJsonRows; a table in CSV, or JSON under a name that does not announce it; a field that is not
// there; no text at all.
absl::StatusOr<std::vector<std::string>> LoadDocuments(const TextSource& source);

// The first documents of a text.
struct FirstDocuments {
  std::vector<std::string> documents;
  int64_t count = 0;  // of documents in the whole text, estimated as follows
  // How many times larger the whole text is, estimated by bytes; 1 where these are all of it.
  double times = 1;
};

// As far as the first bytes of the text hold them, so that a large file takes no longer than a
// small one; what is wrong behind them is not found. first_bytes: above 0.
absl::StatusOr<FirstDocuments> LoadFirstDocuments(const TextSource& source, int64_t first_bytes);

}  // namespace svdllm
