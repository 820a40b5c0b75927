#include "client/cli/format.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "base/utf8.h"

namespace svdllm::cli {
namespace {

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

}  // namespace

std::string Duration(const google::protobuf::Duration& duration) {
  return svdllm::Duration(static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9);
}

std::string ChangeText(int64_t before, int64_t after) {
  if (before <= 0) return "";
  return absl::StrCat(" (", Change(static_cast<double>(before), static_cast<double>(after)), ")");
}

std::string Perplexity(double value) {
  if (value < 100) return absl::StrFormat("%.2f", value);
  return absl::StrFormat("%.4g", value);
}

std::string Time(const google::protobuf::Timestamp& time) {
  if (time.seconds() == 0 && time.nanos() == 0) return "-";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", ToTime(time), absl::UTCTimeZone());
}

double Between(const google::protobuf::Timestamp& start, const google::protobuf::Timestamp& end) {
  return absl::ToDoubleSeconds(ToTime(end) - ToTime(start));
}

std::string Printable(const std::string& text) {
  std::string printable;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F, of which U+009B begins a command as ESC [ does.
    const bool second_set = byte == 0xc2 && i + 1 < text.size() &&
                            (static_cast<unsigned char>(text[i + 1]) & 0xe0) == 0x80;
    const bool control = second_set || (std::iscntrl(byte) && byte != '\n' && byte != '\t');
    printable += control ? '?' : text[i];
    if (second_set) ++i;
  }
  return printable;
}

std::string Wrap(std::string_view text, std::string_view indent, size_t width) {
  std::string result;
  size_t column = 0;
  for (absl::string_view word :
       absl::StrSplit(absl::string_view(text.data(), text.size()), ' ', absl::SkipEmpty())) {
    if (column > 0 && column + 1 + word.size() > width) {
      result += "\n";
      column = 0;
    }
    const std::string_view before = column == 0 ? indent : " ";
    absl::StrAppend(&result, std::string(before), word);
    column += before.size() + word.size();
  }
  return result + "\n";
}

std::string Table(std::vector<std::vector<std::string>> rows) {
  if (rows.empty()) return "";
  for (std::vector<std::string>& row : rows) {
    for (std::string& cell : row) std::replace(cell.begin(), cell.end(), '\n', ' ');
  }
  const size_t columns = rows[0].size();
  std::vector<size_t> widths(columns, 0);  // no wide characters are printed here
  std::vector<bool> right(columns, rows.size() > 1);
  for (size_t row = 0; row < rows.size(); ++row) {
    for (size_t i = 0; i < columns; ++i) {
      const std::string& cell = rows[row][i];
      widths[i] = std::max(widths[i], CountCharacters(cell));
      if (row > 0 && cell != "-" && cell != "dense" &&
          (cell.empty() || !std::isdigit(static_cast<unsigned char>(cell[0])))) {
        right[i] = false;
      }
    }
  }
  std::string text;
  for (const std::vector<std::string>& row : rows) {
    std::string line;
    for (size_t i = 0; i < columns; ++i) {
      const std::string padding(widths[i] - CountCharacters(row[i]), ' ');
      absl::StrAppend(&line, i == 0 ? "" : "  ", right[i] ? padding : "", row[i],
                      right[i] ? "" : padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

}  // namespace svdllm::cli
