#include "report/escape.h"

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

}  // namespace svdllm
