// Comma-separated values as RFC 4180 has them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace svdllm {

struct CsvRow {
  int64_t line = 0;  // the line that it begins on, from 1
  std::vector<std::string> fields;
};

// Returns the rows of a text, at most limit of them where limit > 0. Lines end in LF or CRLF; empty
// ones are passed over. rows[1].fields[0] is the first field of the second row. DATASET_INVALID,
// naming the line, where a quote is not closed or stands inside a bare field.
absl::StatusOr<std::vector<CsvRow>> ParseCsv(std::string_view text, const std::string& path,
                                             int64_t limit = 0);

}  // namespace svdllm
