// UTF-8, as the reference tokenizers and Python see it.
#pragma once

#include <string>
#include <string_view>

namespace svdllm {

// Where the first byte that is not part of a character stands; npos: all are.
size_t FirstInvalidUtf8(std::string_view text);
inline bool IsValidUtf8(std::string_view text) { return FirstInvalidUtf8(text) == text.npos; }
// Invalid sequences become U+FFFD, one for each maximal valid prefix of a character, as Python's
// errors="replace" does. Valid text is returned as it is.
std::string ToValidUtf8(std::string_view text);

// Bytes of the character that starts with this byte of valid UTF-8.
inline size_t CharLength(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}
// The character at text[pos]; text is valid UTF-8 and pos a character's first byte.
char32_t DecodeChar(std::string_view text, size_t pos);
// First byte of the character that ends just before pos > 0.
size_t PreviousChar(std::string_view text, size_t pos);
void AppendUtf8(char32_t c, std::string* out);
size_t CountCharacters(std::string_view text);

// The Unicode property White_Space.
bool IsWhiteSpace(char32_t c);
// What Python's str.isspace takes for it: the separators U+001C to U+001F too.
bool IsPythonSpace(char32_t c);
// Where the run of white space that starts at pos ends, and where the one that ends at pos starts.
using SpacePredicate = bool (*)(char32_t);
size_t SkipWhiteSpace(std::string_view text, size_t pos, SpacePredicate is_space = IsWhiteSpace);
size_t SkipWhiteSpaceBack(std::string_view text, size_t pos,
                          SpacePredicate is_space = IsWhiteSpace);

// Every occurrence of from (not empty) in text replaced by to; left to right, none overlapping.
std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to);

}  // namespace svdllm
