#include "report/escape.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace svdllm {
namespace {

// No control character, and none that XML cannot hold.
bool IsShown(char32_t c) {
  if (c < 0x20) return c == '\t' || c == '\n';
  return (c < 0x80 || c > 0x9f) && (c & 0xfffe) != 0xfffe;
}

// Each character that can be shown as shown(character) says, U+FFFD for what else there is.
template <typename Function>
std::string EachCharacter(std::string_view text, const Function& shown) {
  const std::string valid = ToValidUtf8(text);
  std::string safe;
  for (size_t pos = 0, length = 0; pos < valid.size(); pos += length) {
    length = CharLength(valid[pos]);
    if (IsShown(DecodeChar(valid, pos))) {
      safe += shown(std::string_view(valid).substr(pos, length));
    } else {
      AppendUtf8(0xfffd, &safe);
    }
  }
  return safe;
}

std::string OneLine(std::string_view text) {
  return EachCharacter(
      text, [](std::string_view c) { return std::string(c == "\n" || c == "\t" ? " " : c); });
}

}  // namespace

std::string Escape(std::string_view text) {
  return EachCharacter(text, [](std::string_view c) -> std::string {
    switch (c[0]) {
      case '&':
        return "&amp;";
      case '<':
        return "&lt;";
      case '>':
        return "&gt;";
      case '"':
        return "&quot;";
      case '\'':
        return "&#39;";
      default:
        return std::string(c);
    }
  });
}

std::string EscapeMarkdown(std::string_view text) {
  std::string safe;
  for (const char c : OneLine(text)) {
    if (c == '<') {
      safe += "&lt;";  // behind a backslash it would be a tag to whoever reads it as HTML
      continue;
    }
    if (std::string_view("\\`*[]&|").find(c) != std::string_view::npos) safe += '\\';
    safe += c;
  }
  return safe;
}

std::string CodeSpan(std::string_view text) {
  const std::string code = OneLine(text);
  // What could be a tag is one to readers that do not know code from text.
  if (code.find('<') != std::string::npos) return EscapeMarkdown(code);
  // Code ends at as many backticks as it began with: one more than stand together in the text.
  size_t longest = 0, run = 0;
  for (const char c : code) {
    run = c == '`' ? run + 1 : 0;
    longest = std::max(longest, run);
  }
  const std::string fence(longest + 1, '`');
  const bool touches = !code.empty() && (code.front() == '`' || code.back() == '`');
  const char* gap = touches ? " " : "";
  return fence + gap + code + gap + fence;
}

std::string YamlScalar(std::string_view text) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  const std::string line = OneLine(text);
  // A string of JSON is one of YAML.
  const bool bare = !line.empty() && std::all_of(line.begin(), line.end(), plain) && line[0] != '-';
  return bare ? line : nlohmann::json(line).dump();
}

}  // namespace svdllm
