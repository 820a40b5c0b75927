#include "text/json_rows.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/json.h"
#include "text/foreign.h"

namespace svdllm {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

absl::Status Invalid(const TextFile& file, const std::string& what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kDatasetInvalid, file.path + ": " + what);
}

// NaN and infinities outside of strings become {}, as long as they are: like them neither a text
// nor a list nor a number.
std::string WithoutNonFinite(std::string_view row) {
  std::string out(row);
  bool quoted = false;
  for (size_t i = 0; i < out.size(); ++i) {
    if (quoted && out[i] == '\\') {
      ++i;
    } else if (out[i] == '"') {
      quoted = !quoted;
    } else if (!quoted) {
      for (const std::string_view word : {"NaN", "Infinity", "-Infinity"}) {
        if (out.compare(i, word.size(), word) != 0) continue;
        out.replace(i, word.size(), "{}" + std::string(word.size() - 2, ' '));
        break;
      }
    }
  }
  return out;
}

// Values separated by commas or tabs, as the first line of CSV has them.
bool LooksLikeTable(std::string_view row) {
  const size_t first = row.find_first_not_of(kSpace);
  if (first == std::string_view::npos || row[first] == '{' || row[first] == '[') return false;
  return row.find_first_of(",\t") != std::string_view::npos;
}

// The value of text[begin, end); number: of how many rows it is the first, from 0.
absl::StatusOr<nlohmann::json> ParseRow(const TextFile& file, size_t begin, size_t end,
                                        int64_t number) {
  const std::string_view row = std::string_view(file.text).substr(begin, end - begin);
  JsonFault fault;
  absl::StatusOr<nlohmann::json> value = ParseJson(row, &fault);
  if (!value.ok() && (row.find("NaN") != row.npos || row.find("Infinity") != row.npos)) {
    value = ParseJson(WithoutNonFinite(row), &fault);
  }
  if (value.ok()) return value;
  std::string what = PlaceIn(file.text, begin + std::min(fault.position, row.size())) +
                     ": not valid JSON: " + fault.what;
  if (number == 0 && LooksLikeTable(row)) {
    what += "; if it is a table in CSV, this turns it into JSON lines: " +
            PandasCommand("read_csv", file.path);
  } else if (number == 0 && fault.position >= row.size() && file.text[begin] == '{') {
    what +=
        "; a file is an array of documents or has one on every line, not one object over "
        "several lines";
  }
  return Invalid(file, what);
}

// Where the element that begins at `at` ends: in front of a comma or bracket of the array itself
// (or of a brace that closes nothing), or at the end of the text.
size_t ElementEnd(std::string_view text, size_t at) {
  int64_t depth = 0;
  bool quoted = false;
  for (; at < text.size(); ++at) {
    const char c = text[at];
    if (quoted) {
      if (c == '\\') ++at;
      if (c == '"') quoted = false;
      continue;
    }
    if (c == '"') quoted = true;
    if (c == '[' || c == '{') ++depth;
    if (depth == 0 && (c == ',' || c == ']' || c == '}')) return at;
    if (c == ']' || c == '}') --depth;
  }
  return text.size();
}

absl::Status ReadArray(const TextFile& file, size_t at, int64_t limit, const JsonRowSink& row) {
  const std::string& text = file.text;
  const auto skip_space = [&] { at = std::min(text.find_first_not_of(kSpace, at), text.size()); };
  ++at;  // the bracket
  skip_space();
  for (int64_t number = 0; at >= text.size() || number > 0 || text[at] != ']'; ++number) {
    if (limit > 0 && number == limit) return absl::OkStatus();
    const size_t end = ElementEnd(text, at);
    if (end >= text.size()) {
      if (!file.whole) return absl::OkStatus();
      return Invalid(file, PlaceIn(text, text.size()) +
                               ": not valid JSON: its array does not end; was it copied whole?");
    }
    ASSIGN_OR_RETURN(nlohmann::json value, ParseRow(file, at, end, number));
    RETURN_IF_ERROR(row(file.path + ": element " + std::to_string(number), std::move(value)));
    at = end;
    if (text[at] == ']') break;
    if (text[at] == '}') {
      return Invalid(file, PlaceIn(text, at) + ": not valid JSON: a brace that closes nothing");
    }
    ++at;  // the comma
    skip_space();
  }
  ++at;
  skip_space();
  if (at < text.size()) {
    return Invalid(file, PlaceIn(text, at) + ": not valid JSON: something behind the array");
  }
  return absl::OkStatus();
}

absl::Status ReadLines(const TextFile& file, int64_t limit, const JsonRowSink& row) {
  const std::string& text = file.text;
  int64_t line = 0, number = 0;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    if (limit > 0 && number == limit) break;
    ++line;
    end = std::min(text.find('\n', begin), text.size());
    if (end == text.size() && !file.whole) break;
    // Within the line: each of many blank lines would look through all of the others behind it.
    if (std::string_view(text).substr(begin, end - begin).find_first_not_of(kSpace) ==
        std::string_view::npos) {
      continue;
    }
    ASSIGN_OR_RETURN(nlohmann::json value, ParseRow(file, begin, end, number));
    RETURN_IF_ERROR(row(file.path + ": line " + std::to_string(line), std::move(value)));
    ++number;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ReadJsonRows(const TextFile& file, int64_t limit, const JsonRowSink& row) {
  const size_t first = file.text.find_first_not_of(kSpace);
  if (first != std::string::npos && file.text[first] == '[') {
    return ReadArray(file, first, limit, row);
  }
  return ReadLines(file, limit, row);
}

bool HasJsonEnding(const TextFile& file) {
  constexpr std::string_view kEndings[] = {".json", ".jsonl", ".ndjson", ".jsonlines"};
  return std::find(std::begin(kEndings), std::end(kEndings), file.ending) != std::end(kEndings);
}

absl::Status RefuseUnannouncedJson(const TextFile& file) {
  const std::string& text = file.text;
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string::npos) return absl::OkStatus();
  std::string form;
  if (text[first] == '{') {
    const size_t end = std::min(text.find('\n', first), text.size());
    const std::string line = WithoutNonFinite(std::string_view(text).substr(first, end - first));
    if (ParseJson(line).ok()) form = "JSON lines: let its name end in .jsonl";
  } else if (text[first] == '[') {
    const size_t second = text.find_first_not_of(kSpace, first + 1);
    const bool opens = second != std::string::npos && (text[second] == '{' || text[second] == '"');
    if (opens) {
      const size_t end = ElementEnd(text, second);
      const std::string_view element = std::string_view(text).substr(second, end - second);
      if (end < text.size() && ParseJson(WithoutNonFinite(element)).ok()) {
        form = "a JSON array: let its name end in .json";
      }
    }
  }
  if (form.empty()) return absl::OkStatus();
  return Invalid(file, "holds " + form + ", or its braces and quotes would count as text");
}

}  // namespace svdllm
