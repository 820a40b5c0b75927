#include "tasks/records.h"

#include <algorithm>

#include "tasks/csv.h"
#include "tasks/text.h"
#include "text/json_rows.h"
#include "text/text_file.h"

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
constexpr TextLimits kLimits = {int64_t{1} << 30};

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

absl::StatusOr<std::vector<Record>> FromJson(const TextFile& file, int64_t limit) {
  std::vector<Record> records;
  RETURN_IF_ERROR(ReadJsonRows(file, limit, [&](const std::string& where, Json fields) {
    if (!fields.is_object()) return Invalid(where + ": not a JSON object");
    records.push_back({where, std::move(fields)});
    return absl::OkStatus();
  }));
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
  ASSIGN_OR_RETURN(const TextFile file, ReadTextFile(path, kLimits));
  if (file.ending == ".txt") RETURN_IF_ERROR(RefuseUnannouncedJson(file));
  absl::StatusOr<std::vector<Record>> records =
      file.ending == ".csv"   ? FromCsv(file.text, path, limit)
      : file.ending == ".txt" ? FromSixLines(file.text, path, limit)
                              : FromJson(file, limit);
  if (records.ok() && records->empty()) return Invalid(path + ": no questions in it");
  return records;
}

absl::Status AddLabels(const std::string& labels_path, std::string_view field, bool all,
                       std::vector<Record>& records) {
  ASSIGN_OR_RETURN(const TextFile file, ReadTextFile(labels_path, kLimits));
  const std::vector<std::string_view> labels = SplitAtSpace(file.text);
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
