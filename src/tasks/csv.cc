#include "tasks/csv.h"

namespace svdllm {
namespace {

absl::Status Invalid(const std::string& path, int64_t line, const std::string& what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kDatasetInvalid,
                   path + ": line " + std::to_string(line) + ": " + what);
}

}  // namespace

absl::StatusOr<std::vector<CsvRow>> ParseCsv(std::string_view text, const std::string& path,
                                             int64_t limit) {
  std::vector<CsvRow> rows;
  int64_t line = 1;
  for (size_t at = 0; at < text.size();) {
    if (text[at] == '\n' || (text[at] == '\r' && text.substr(at, 2) == "\r\n")) {
      at += text[at] == '\n' ? 1 : 2;
      ++line;
      continue;
    }
    if (limit > 0 && static_cast<int64_t>(rows.size()) == limit) break;
    CsvRow row{line, {}};
    for (bool more = true; more;) {
      std::string field;
      if (at < text.size() && text[at] == '"') {
        const int64_t opened = line;
        for (++at;; ++at) {
          if (at >= text.size()) return Invalid(path, opened, "a quote that is not closed");
          if (text[at] == '"') {
            if (at + 1 >= text.size() || text[at + 1] != '"') break;
            ++at;
          }
          if (text[at] == '\n') ++line;
          field += text[at];
        }
        ++at;
        const bool ends = at >= text.size() || text[at] == ',' || text[at] == '\n' ||
                          text.substr(at, 2) == "\r\n";
        if (!ends) return Invalid(path, line, "text behind a closing quote");
      } else {
        const size_t end = std::min(text.find_first_of(",\n", at), text.size());
        field = text.substr(at, end - at);
        at = end;
        if (field.find('"') != std::string::npos) {
          return Invalid(path, line, "a quote inside a field that is not quoted");
        }
        if (!field.empty() && field.back() == '\r') field.pop_back();
      }
      row.fields.push_back(std::move(field));
      more = at < text.size() && text[at] == ',';
      if (more) ++at;
    }
    if (text.substr(at, 2) == "\r\n") ++at;
    if (at < text.size()) ++at, ++line;
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace svdllm
