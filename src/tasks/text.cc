#include "tasks/text.h"

#include "tasks/text_pattern.h"

namespace svdllm {
namespace {

struct Character {
  uint32_t code = 0;
  size_t bytes = 0;  // 0: none
};

bool IsContinuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

// The character that begins the text.
Character Decode(std::string_view text) {
  if (text.empty()) return {};
  const auto first = static_cast<unsigned char>(text[0]);
  const size_t bytes = first < 0x80   ? 1
                       : first < 0xC2 ? 0
                       : first < 0xE0 ? 2
                       : first < 0xF0 ? 3
                       : first < 0xF5 ? 4
                                      : 0;
  if (bytes == 0 || text.size() < bytes) return {};
  uint32_t code = bytes == 1 ? first : first & (0xFFu >> (bytes + 1));
  for (size_t i = 1; i < bytes; ++i) {
    if (!IsContinuation(text[i])) return {};
    code = code << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
  }
  const bool too_long = (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
  if (too_long || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return {};
  return {code, bytes};
}

bool IsSpace(uint32_t code) {
  return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 ||
         code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 ||
         code == 0x2029 || code == 0x202F || code == 0x205F || code == 0x3000;
}

// Bytes of white space at the beginning.
size_t SpaceBytes(std::string_view text) {
  size_t at = 0;
  for (Character c; (c = Decode(text.substr(at))).bytes > 0 && IsSpace(c.code);) at += c.bytes;
  return at;
}

}  // namespace

size_t FirstInvalidUtf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const size_t bytes = Decode(text.substr(at)).bytes;
    if (bytes == 0) return at;
    at += bytes;
  }
  return std::string_view::npos;
}

int64_t CountCharacters(std::string_view text) {
  int64_t count = 0;
  for (const char byte : text) count += !IsContinuation(byte);
  return count;
}

std::string_view StripSpaceRight(std::string_view text) {
  while (!text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && IsContinuation(text[last])) --last;
    const Character c = Decode(text.substr(last));
    if (c.bytes == 0 || !IsSpace(c.code)) break;
    text = text.substr(0, last);
  }
  return text;
}

std::string_view StripSpace(std::string_view text) {
  return StripSpaceRight(text.substr(SpaceBytes(text)));
}

std::vector<std::string_view> SplitAtSpace(std::string_view text) {
  std::vector<std::string_view> words;
  for (;;) {
    text = text.substr(SpaceBytes(text));
    if (text.empty()) return words;
    size_t end = 0;
    while (end < text.size()) {
      const Character c = Decode(text.substr(end));
      if (c.bytes > 0 && IsSpace(c.code)) break;
      end += c.bytes > 0 ? c.bytes : 1;
    }
    words.push_back(text.substr(0, end));
    text = text.substr(end);
  }
}

std::vector<std::string_view> SplitAt(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text = text.substr(end + 1);
  }
}

std::string ReplaceText(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (;;) {
    const size_t at = text.find(from);
    out += text.substr(0, at);
    if (at == std::string_view::npos) return out;
    out += to;
    text = text.substr(at + from.size());
  }
}

std::string LowerCase(std::string_view text) {
  static const TextPattern everything("(?s).+");
  return everything.Replace(text, "\\L$0");
}

std::string Capitalize(std::string_view text) {
  static const TextPattern everything("(?s).+");
  const size_t first = Decode(text).bytes;
  return everything.Replace(text.substr(0, first), "\\U$0") + LowerCase(text.substr(first));
}

}  // namespace svdllm
