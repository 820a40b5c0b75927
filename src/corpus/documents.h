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
  int64_t count = 0;  // of documents in the whole text; estimated where it was not read to its end
  // How many times larger the whole text is, by bytes; 1 where these are all of it.
  double times = 1;

  bool whole() const { return times == 1; }
};

// The documents of the first kept_bytes, the last one cut where it is longer than what is left. So
// that a large file takes no longer than a small one, no more than read_bytes of the text are read:
// what is wrong behind them is not found. Both: above 0.
absl::StatusOr<FirstDocuments> LoadFirstDocuments(const TextSource& source, int64_t kept_bytes,
                                                  int64_t read_bytes);

}  // namespace svdllm
