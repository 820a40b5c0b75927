#include "report/html.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace svdllm {
namespace {

// Bytes of the UTF-8 sequence that text begins with, 0 where it is none that XML allows.
size_t SequenceLength(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  if (byte(0) < 0x80) return byte(0) >= 0x20 || byte(0) == '\t' || byte(0) == '\n' ? 1 : 0;
  const size_t length = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || text.size() < length) return 0;
  uint32_t code = byte(0) & (0x7fu >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
    code = code << 6 | (byte(i) & 0x3fu);
  }
  constexpr std::array<uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  const bool allowed = code >= kLeast[length] && code <= 0x10ffff &&
                       (code < 0xd800 || code > 0xdfff) && (code & 0xfffe) != 0xfffe &&
                       (code < 0x80 || code > 0x9f);
  return allowed ? length : 0;
}

}  // namespace

std::string Escape(std::string_view text) {
  std::string safe;
  while (!text.empty()) {
    const size_t length = SequenceLength(text);
    if (length == 0) {
      safe += "\xef\xbf\xbd";
    } else if (text[0] == '&') {
      safe += "&amp;";
    } else if (text[0] == '<') {
      safe += "&lt;";
    } else if (text[0] == '>') {
      safe += "&gt;";
    } else if (text[0] == '"') {
      safe += "&quot;";
    } else if (text[0] == '\'') {
      safe += "&#39;";
    } else {
      safe += text.substr(0, length);
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return safe;
}

std::string Card(const std::string& name, const std::string& figure, const std::string& detail,
                 const char* figure_class) {
  return fmt::format(
      "<div class=\"card\"><div class=\"name\">{}</div><div class=\"figure {}\">{}</div><div "
      "class=\"detail\">{}</div></div>",
      Escape(name), figure_class, Escape(figure), Escape(detail));
}

std::string Section(const std::string& title, const std::string& explanation,
                    const std::string& content) {
  return fmt::format("<section><h2>{}</h2><p>{}</p>{}</section>\n", Escape(title),
                     Escape(explanation), content);
}

std::string List(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string list = "<dl>";
  for (const auto& [name, value] : items) {
    list += "<dt>" + Escape(name) + "</dt><dd>" + Escape(value) + "</dd>";
  }
  return list + "</dl>";
}

std::string Cell(const std::string& text) { return "<td>" + Escape(text) + "</td>"; }
std::string NumberCell(const std::string& text) {
  return "<td class=\"number\">" + Escape(text) + "</td>";
}

}  // namespace svdllm
