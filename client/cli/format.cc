#include "client/cli/format.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
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

std::string Printable(std::string text) {
  for (char& c : text) {
    if (std::iscntrl(static_cast<unsigned char>(c)) && c != '\n' && c != '\t') c = '?';
  }
  return text;
}

std::string Table(const std::vector<std::vector<std::string>>& rows) {
  if (rows.empty()) return "";
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
