#include "tasks/records.h"

#include <algorithm>

#include "base/files.h"
#include "base/utf8.h"
#include "tasks/csv.h"
#include "tasks/text.h"

namespace svdllm {
namespace {

using Json = nlohmann::json;

absl::Status Invalid(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, kDatasetInvalid, message);
}

std::string Line(const std::string& path, int64_t number) {
  return path + ": line " + std::to_string(number);
}

// Far beyond any dataset; what is larger is another file.
constexpr int64_t kMaxBytes = int64_t{1} << 30;

// The text without a byte order mark.
absl::StatusOr<std::string> ReadText(const std::string& path) {
  for (const std::string_view ending : {".bz2", ".gz", ".xz", ".zst", ".zip", ".parquet"}) {
    if (!path.ends_with(ending)) continue;
    return Invalid(
        path + (ending == ".parquet" ? ": write it as JSON lines first" : ": decompress it first") +
        "; docs/tasks.md lists the files that are read");
  }
  absl::StatusOr<std::string> text = ReadFile(path, kMaxBytes);
  if (!text.ok()) {
    return MakeError(text.status().code(), kDatasetInvalid, std::string(text.status().message()));
  }
  if (text->rfind("\xEF\xBB\xBF", 0) == 0) text->erase(0, 3);
  const size_t bad = FirstInvalidUtf8(*text);
  if (bad != std::string::npos) {
    const auto before = text->begin() + static_cast<std::ptrdiff_t>(bad);
    return Invalid(Line(path, 1 + std::count(text->begin(), before, '\n')) + ": not UTF-8");
  }
  return text;
}

absl::StatusOr<std::vector<Record>> FromCsv(const std::string& text, const std::string& path,
                                            int64_t limit) {
  ASSIGN_OR_RETURN(const std::vector<CsvRow> rows, ParseCsv(text, path, limit > 0 ? limit + 1 : 0));
  std::vector<Record> records;
  for (size_t i = 1; i < rows.size(); ++i) {
    Record record{Line(path, rows[i].line), Json::object()};
    if (rows[i].fields.size() != rows[0].fields.size()) {
      return InvalidRecord(record, std::to_string(rows[i].fields.size()) + " fields, not " +
                                       std::to_string(rows[0].fields.size()) +
                                       " as in the first row");
    }
    for (size_t j = 0; j < rows[0].fields.size(); ++j) {
      record.fields[rows[0].fields[j]] = rows[i].fields[j];
    }
    records.push_back(std::move(record));
  }
  return records;
}

absl::StatusOr<std::vector<Record>> FromSixLines(const std::string& text, const std::string& path,
                                                 int64_t limit) {
  std::vector<std::string_view> lines = SplitAt(text, '\n');
  while (!lines.empty() && StripSpace(lines.back()).empty()) lines.pop_back();
  std::vector<Record> records;
  for (size_t i = 0; i < lines.size(); i += 6) {
    if (limit > 0 && static_cast<int64_t>(records.size()) == limit) break;
    Record record{Line(path, static_cast<int64_t>(i) + 1), Json::object()};
    if (lines.size() - i < 6) return InvalidRecord(record, "fewer than six lines are left");
    for (size_t j = i; j < i + 6; ++j) {
      if (!lines[j].empty() && lines[j].back() == '\r') lines[j].remove_suffix(1);
    }
    record.fields["query"] = lines[i];
    record.fields["gold"] = lines[i + 1];
    for (size_t j = i + 2; j < i + 6; ++j) record.fields["choices"].push_back(lines[j]);
    records.push_back(std::move(record));
  }
  return records;
}

absl::StatusOr<std::vector<Record>> FromJson(const std::string& text, const std::string& path,
                                             int64_t limit) {
  std::vector<Record> records;
  const auto add = [&](const std::string& where, Json fields) -> absl::Status {
    if (fields.is_discarded()) return Invalid(where + ": not valid JSON");
    if (!fields.is_object()) return Invalid(where + ": not a JSON object");
    records.push_back({where, std::move(fields)});
    return absl::OkStatus();
  };
  const auto full = [&] { return limit > 0 && static_cast<int64_t>(records.size()) == limit; };
  const size_t first = text.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && text[first] == '[') {
    Json array = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (array.is_discarded()) return Invalid(path + ": not valid JSON");
    for (size_t i = 0; i < array.size() && !full(); ++i) {
      RETURN_IF_ERROR(add(path + ": element " + std::to_string(i), std::move(array[i])));
    }
    return records;
  }
  int64_t number = 0;
  for (const std::string_view line : SplitAt(text, '\n')) {
    ++number;
    if (full()) break;
    if (StripSpace(line).empty()) continue;
    RETURN_IF_ERROR(add(Line(path, number), Json::parse(line, nullptr, false)));
  }
  return records;
}

absl::StatusOr<const Json*> Field(const Record& record, const char* field) {
  const auto found = record.fields.find(field);
  if (found == record.fields.end()) {
    return InvalidRecord(record, std::string("no field '") + field + "'");
  }
  return &*found;
}

}  // namespace

absl::Status InvalidRecord(const Record& record, const std::string& what) {
  return Invalid(record.where + ": " + what);
}

absl::StatusOr<std::vector<Record>> ReadRecords(const std::string& path, int64_t limit) {
  ASSIGN_OR_RETURN(const std::string text, ReadText(path));
  const std::string ending = path.substr(std::min(path.rfind('.'), path.size()));
  absl::StatusOr<std::vector<Record>> records = ending == ".csv"   ? FromCsv(text, path, limit)
                                                : ending == ".txt" ? FromSixLines(text, path, limit)
                                                                   : FromJson(text, path, limit);
  if (records.ok() && records->empty()) return Invalid(path + ": no questions in it");
  return records;
}

absl::Status AddLabels(const std::string& labels_path, std::string_view field, bool all,
                       std::vector<Record>& records) {
  ASSIGN_OR_RETURN(const std::string text, ReadText(labels_path));
  const std::vector<std::string_view> labels = SplitAtSpace(text);
  if (labels.size() < records.size() || (all && labels.size() > records.size())) {
    return Invalid(labels_path + ": " + std::to_string(labels.size()) + " labels for " +
                   std::to_string(records.size()) + " questions");
  }
  for (size_t i = 0; i < records.size(); ++i) {
    records[i].fields[std::string(field)] = std::string(labels[i]);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Text(const Record& record, const char* field) {
  ASSIGN_OR_RETURN(const Json* const value, Field(record, field));
  if (value->is_string()) return value->get<std::string>();
  return InvalidRecord(record, std::string("field '") + field + "' is not a string");
}

absl::StatusOr<std::vector<std::string>> Texts(const Record& record, const char* field) {
  ASSIGN_OR_RETURN(const Json* const value, Field(record, field));
  const bool strings =
      value->is_array() && std::all_of(value->begin(), value->end(),
                                       [](const Json& element) { return element.is_string(); });
  if (strings) return value->get<std::vector<std::string>>();
  return InvalidRecord(record, std::string("field '") + field + "' is not a list of strings");
}

absl::StatusOr<int64_t> Integer(const Record& record, const char* field) {
  ASSIGN_OR_RETURN(const Json* const value, Field(record, field));
  if (value->is_number_integer()) return value->get<int64_t>();
  if (value->is_string()) {
    const auto& text = value->get_ref<const std::string&>();
    const bool digits =
        !text.empty() && text.size() < 10 &&
        std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (digits) return std::stoll(text);
  }
  return InvalidRecord(record, std::string("field '") + field + "' is not a whole number");
}

}  // namespace svdllm
