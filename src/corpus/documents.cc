#include "corpus/documents.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "text/foreign.h"
#include "text/json_rows.h"
#include "text/text_file.h"

namespace svdllm {
namespace {

absl::Status Invalid(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, kDatasetInvalid, message);
}

// ": it has 'content' and 'title'", so that the right field can be named.
std::string OtherTexts(const nlohmann::json& object) {
  constexpr int kShown = 5;
  std::string names;
  int count = 0;
  for (const auto& [key, value] : object.items()) {
    if (!value.is_string() || ++count > kShown) continue;
    names += (names.empty() ? "'" : ", '") + Printable(key) + "'";
  }
  if (names.empty()) return "";
  return "; of strings it has " + names + (count > kShown ? " and more" : "");
}

// A document of a JSON text: a string, or an object's text field.
absl::StatusOr<std::string> DocumentOf(nlohmann::json& value, const TextSource& source,
                                       const std::string& where) {
  if (value.is_string()) return std::move(value.get_ref<std::string&>());
  if (value.is_object()) {
    const auto field = value.find(source.text_field);
    if (field != value.end() && field->is_string()) {
      return std::move(field->get_ref<std::string&>());
    }
    return Invalid(where + ": no string field '" + source.text_field + "'" + OtherTexts(value));
  }
  return Invalid(where + ": neither a string nor an object");
}

std::vector<std::string> Rows(const std::string& text, TextRows kind) {
  constexpr char kSpace[] = " \t\r\n";
  std::vector<std::string> rows;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    std::string row = text.substr(begin, end - begin);
    const size_t first = row.find_first_not_of(kSpace);
    if (first == std::string::npos) {
      row.clear();
    } else if (kind == TextRows::kStrippedRows) {
      row = row.substr(first, row.find_last_not_of(kSpace) + 1 - first);
    }
    rows.push_back(std::move(row));
    begin = end;
  }
  return rows;
}

absl::StatusOr<std::vector<std::string>> DocumentsOf(TextFile file, const TextSource& source) {
  std::vector<std::string> documents;
  if (HasJsonEnding(file)) {
    RETURN_IF_ERROR(
        ReadJsonRows(file, source.max_documents,
                     [&](const std::string& where, nlohmann::json value) -> absl::Status {
                       ASSIGN_OR_RETURN(documents.emplace_back(), DocumentOf(value, source, where));
                       return absl::OkStatus();
                     }));
  } else if (file.ending == ".csv" || file.ending == ".tsv") {
    return Invalid(file.path + ": a table, not a text; this turns it into JSON lines: " +
                   PandasCommand(file.ending == ".csv" ? "read_csv" : "read_table", file.path));
  } else {
    RETURN_IF_ERROR(RefuseUnannouncedJson(file));
    if (source.rows == TextRows::kWhole) {
      documents.push_back(std::move(file.text));
    } else {
      documents = Rows(file.text, source.rows);
    }
  }
  if (source.max_documents > 0 && static_cast<int64_t>(documents.size()) > source.max_documents) {
    documents.resize(static_cast<size_t>(source.max_documents));
  }
  const bool has_text = std::any_of(documents.begin(), documents.end(), [](const auto& document) {
    return document.find_first_not_of(" \t\r\n") != std::string::npos;
  });
  if (!has_text && file.whole) return Invalid(file.path + ": no text in it");
  return documents;
}

void KeepFirst(int64_t bytes, FirstDocuments& first) {
  std::vector<std::string>& documents = first.documents;
  double all = 0;
  for (const std::string& document : documents) all += static_cast<double>(document.size());
  int64_t left = bytes;
  size_t kept = 0;
  while (kept < documents.size() && std::ssize(documents[kept]) <= left) {
    left -= std::ssize(documents[kept++]);
  }
  if (kept == documents.size()) return;
  std::string& cut = documents[kept];
  while (left > 0 && (static_cast<unsigned char>(cut[static_cast<size_t>(left)]) & 0xc0) == 0x80) {
    --left;  // not inside of a character
  }
  cut.resize(static_cast<size_t>(left));
  documents.resize(left > 0 ? kept + 1 : kept);
  double held = 0;
  for (const std::string& document : documents) held += static_cast<double>(document.size());
  first.times *= all / std::max(held, 1.0);
}

}  // namespace

absl::StatusOr<std::vector<std::string>> LoadDocuments(const TextSource& source) {
  ASSIGN_OR_RETURN(TextFile file, ReadTextFile(source.path));
  return DocumentsOf(std::move(file), source);
}

absl::StatusOr<FirstDocuments> LoadFirstDocuments(const TextSource& source, int64_t kept_bytes,
                                                  int64_t read_bytes) {
  ASSIGN_OR_RETURN(TextFile file, ReadTextFile(source.path, {kMaxTextBytes, read_bytes}));
  FirstDocuments first;
  if (!file.whole) first.times = file.bytes / static_cast<double>(file.text.size());
  const bool one = !HasJsonEnding(file) && source.rows == TextRows::kWhole;
  ASSIGN_OR_RETURN(first.documents, DocumentsOf(std::move(file), source));
  // What max_documents leaves out is not there.
  const int64_t count = std::ssize(first.documents);
  if (source.max_documents > 0 && count == source.max_documents) first.times = 1;
  first.count = one ? 1 : std::llround(static_cast<double>(count) * first.times);
  KeepFirst(kept_bytes, first);
  return first;
}

}  // namespace svdllm
