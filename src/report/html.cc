#include "report/html.h"

#include <fmt/format.h>

#include "base/utf8.h"

namespace svdllm {
namespace {

// No control character, and none that XML cannot hold.
bool IsShown(char32_t c) {
  if (c < 0x20) return c == '\t' || c == '\n';
  return (c < 0x80 || c > 0x9f) && (c & 0xfffe) != 0xfffe;
}

}  // namespace

std::string Escape(std::string_view text) {
  const std::string valid = ToValidUtf8(text);
  std::string safe;
  for (size_t pos = 0; pos < valid.size(); pos += CharLength(valid[pos])) {
    const char32_t c = DecodeChar(valid, pos);
    if (!IsShown(c)) {
      AppendUtf8(0xfffd, &safe);
    } else if (c == '&') {
      safe += "&amp;";
    } else if (c == '<') {
      safe += "&lt;";
    } else if (c == '>') {
      safe += "&gt;";
    } else if (c == '"') {
      safe += "&quot;";
    } else if (c == '\'') {
      safe += "&#39;";
    } else {
      AppendUtf8(c, &safe);
    }
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
