// Comma-separated values as RFC 4180 has them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace svdllm {

struct CsvRow {
  int64_t line = 0;  // on which it begins, from 1
  std::vector<std::string> fields;
};

// The rows of a text, limit at most where limit > 0; lines end in LF or CRLF, empty ones are passed
// over. DATASET_INVALID, naming the line, where a quote is not closed or stands inside a bare
// field.
absl::StatusOr<std::vector<CsvRow>> ParseCsv(std::string_view text, const std::string& path,
                                             int64_t limit = 0);

}  // namespace svdllm
