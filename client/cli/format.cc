#include "client/cli/format.h"

#include <algorithm>
#include <cctype>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"

namespace svdllm::cli {
namespace {

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

}  // namespace

std::string Count(int64_t value) {
  const std::string digits = std::to_string(value);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    const bool group = i > 0 && (digits.size() - i) % 3 == 0 && digits[i - 1] != '-';
    if (group) text += ',';
    text += digits[i];
  }
  return text;
}

std::string Bytes(int64_t bytes) {
  if (bytes < 1000) return absl::StrCat(bytes, " B");
  double value = static_cast<double>(bytes);
  const char* const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
  int unit = -1;
  // 999.95 would be printed as 1000.0.
  for (; value >= 999.95 && unit < 5; ++unit) value /= 1000;
  return absl::StrFormat("%.1f %s", value, units[std::max(unit, 0)]);
}

std::string Seconds(double seconds) {
  if (!(seconds > 0)) return "0s";
  if (seconds < 9.95) return absl::StrFormat("%.1fs", seconds);
  const int64_t whole = std::llround(std::min(seconds, 1e15));
  if (whole < 60) return absl::StrFormat("%ds", whole);
  if (whole < 3600) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  if (whole < 86400) return absl::StrFormat("%dh%02dm", whole / 3600, whole / 60 % 60);
  return absl::StrFormat("%dd%02dh", whole / 86400, whole / 3600 % 24);
}

std::string Seconds(const google::protobuf::Duration& duration) {
  return Seconds(static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9);
}

std::string Change(int64_t before, int64_t after) {
  if (before <= 0) return "";
  const double change = static_cast<double>(after - before) / static_cast<double>(before);
  return absl::StrFormat(" (%+.1f %%)", 100 * change);
}

std::string Real(double value) { return absl::StrFormat("%g", value); }

std::string Rate(double value) {
  if (value < 999.5) return absl::StrFormat("%.3g", value);
  return Count(static_cast<int64_t>(value + 0.5));
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

size_t Columns(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
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
  std::vector<size_t> widths(columns, 0);
  std::vector<bool> right(columns, rows.size() > 1);
  for (size_t row = 0; row < rows.size(); ++row) {
    for (size_t i = 0; i < columns; ++i) {
      const std::string& cell = rows[row][i];
      widths[i] = std::max(widths[i], Columns(cell));
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
      const std::string padding(widths[i] - Columns(row[i]), ' ');
      absl::StrAppend(&line, i == 0 ? "" : "  ", right[i] ? padding : "", row[i],
                      right[i] ? "" : padding);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

}  // namespace svdllm::cli
