#include "client/cli/format.h"

#include <algorithm>
#include <cctype>
#include <vector>

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

// U+0080 to U+009F, of which U+009B begins a command as ESC [ does; what turns the direction of
// writing; what begins a line or a paragraph.
bool IsHidden(char32_t c) {
  return (c >= 0x80 && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

// keep: control characters that stay.
std::string WrittenOut(const std::string& text, std::string_view keep) {
  const std::string valid = ToValidUtf8(text);
  std::string printable;
  for (size_t at = 0; at < valid.size();) {
    const size_t length = CharLength(valid[at]);
    const char32_t c = DecodeChar(valid, at);
    if (c == '\n' && keep.empty()) {
      printable += "\\n";
    } else if (c == '\t' && keep.empty()) {
      printable += "\\t";
    } else if ((c < 0x20 && keep.find(static_cast<char>(c)) == keep.npos) || c == 0x7f) {
      absl::StrAppendFormat(&printable, "\\x%02x", static_cast<unsigned>(c));
    } else if (IsHidden(c)) {
      absl::StrAppendFormat(&printable, "\\u%04x", static_cast<unsigned>(c));
    } else {
      printable.append(valid, at, length);
    }
    at += length;
  }
  return printable;
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

std::string Printable(const std::string& text) { return WrittenOut(text, "\n\t"); }

void MakePrintable(google::protobuf::Message* message) {
  const google::protobuf::Reflection& in = *message->GetReflection();
  std::vector<const google::protobuf::FieldDescriptor*> fields;
  in.ListFields(*message, &fields);
  for (const auto* field : fields) {
    const bool is_message = field->cpp_type() == field->CPPTYPE_MESSAGE;
    if (!is_message && field->cpp_type() != field->CPPTYPE_STRING) continue;
    if (!field->is_repeated()) {
      if (is_message) {
        MakePrintable(in.MutableMessage(message, field));
      } else {
        in.SetString(message, field, WrittenOut(in.GetString(*message, field), ""));
      }
      continue;
    }
    for (int i = 0; i < in.FieldSize(*message, field); ++i) {
      if (is_message) {
        MakePrintable(in.MutableRepeatedMessage(message, field, i));
      } else {
        const std::string text = in.GetRepeatedString(*message, field, i);
        in.SetRepeatedString(message, field, i, WrittenOut(text, ""));
      }
    }
  }
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
