#include "base/utf8.h"

#include <cstdint>

namespace svdllm {
namespace {

// Length of the well-formed character at text[pos], or 0; then *skip is the length of the longest
// prefix that some well-formed character starts with (at least 1).
size_t WellFormedLength(std::string_view text, size_t pos, size_t* skip) {
  const auto byte = [&](size_t i) -> unsigned {
    return pos + i < text.size() ? static_cast<unsigned char>(text[pos + i]) : 0;
  };
  *skip = 1;
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const size_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies past U+10FFFF.
  const unsigned low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    *skip = i;
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

}  // namespace

size_t FirstInvalidUtf8(std::string_view text) {
  size_t skip = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t length = WellFormedLength(text, pos, &skip);
    if (length == 0) return pos;
    pos += length;
  }
  return text.npos;
}

std::string ToValidUtf8(std::string_view text) {
  if (IsValidUtf8(text)) return std::string(text);
  std::string out;
  out.reserve(text.size() + 16);
  size_t skip = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t length = WellFormedLength(text, pos, &skip);
    if (length > 0) {
      out.append(text.substr(pos, length));
      pos += length;
    } else {
      out.append("\xef\xbf\xbd");
      pos += skip;
    }
  }
  return out;
}

std::string Shortened(std::string_view text, size_t most) {
  constexpr std::string_view kDots = "…";
  std::string valid = ToValidUtf8(text.substr(0, most + 1));
  if (valid.size() <= most) return valid;
  size_t end = most - kDots.size();
  while (end > 0 && (static_cast<unsigned char>(valid[end]) & 0xc0) == 0x80) --end;
  return valid.substr(0, end).append(kDots);
}

char32_t DecodeChar(std::string_view text, size_t pos) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(text[pos + i] & 0xff); };
  switch (CharLength(text[pos])) {
    case 1:
      return byte(0);
    case 2:
      return (byte(0) & 0x1f) << 6 | (byte(1) & 0x3f);
    case 3:
      return (byte(0) & 0x0f) << 12 | (byte(1) & 0x3f) << 6 | (byte(2) & 0x3f);
    default:
      return (byte(0) & 0x07) << 18 | (byte(1) & 0x3f) << 12 | (byte(2) & 0x3f) << 6 |
             (byte(3) & 0x3f);
  }
}

size_t PreviousChar(std::string_view text, size_t pos) {
  --pos;
  while (pos > 0 && (text[pos] & 0xc0) == 0x80) --pos;
  return pos;
}

void AppendUtf8(char32_t c, std::string* out) {
  const auto push = [out](char32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    push(c);
  } else if (c < 0x800) {
    push(0xc0 | c >> 6);
    push(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    push(0xe0 | c >> 12);
    push(0x80 | (c >> 6 & 0x3f));
    push(0x80 | (c & 0x3f));
  } else {
    push(0xf0 | c >> 18);
    push(0x80 | (c >> 12 & 0x3f));
    push(0x80 | (c >> 6 & 0x3f));
    push(0x80 | (c & 0x3f));
  }
}

size_t CountCharacters(std::string_view text) {
  size_t count = 0;
  for (const char byte : text) count += (byte & 0xc0) != 0x80;
  return count;
}

bool IsWhiteSpace(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= 9 && c <= 13);
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool IsPythonSpace(char32_t c) { return IsWhiteSpace(c) || (c >= 0x1c && c <= 0x1f); }

size_t SkipWhiteSpace(std::string_view text, size_t pos, SpacePredicate is_space) {
  while (pos < text.size() && is_space(DecodeChar(text, pos))) pos += CharLength(text[pos]);
  return pos;
}

size_t SkipWhiteSpaceBack(std::string_view text, size_t pos, SpacePredicate is_space) {
  while (pos > 0) {
    const size_t previous = PreviousChar(text, pos);
    if (!is_space(DecodeChar(text, previous))) break;
    pos = previous;
  }
  return pos;
}

std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size() + text.size() / 2);
  size_t pos = 0;
  for (size_t hit; (hit = text.find(from, pos)) != text.npos; pos = hit + from.size()) {
    out.append(text.substr(pos, hit - pos)).append(to);
  }
  return out.append(text.substr(pos));
}

}  // namespace svdllm
