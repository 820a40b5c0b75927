// UTF-8, as the reference tokenizers and Python see it.
#pragma once

#include <string>
#include <string_view>

namespace svdllm {

// Returns where the first byte stands that is not part of a character; npos where all are.
size_t FirstInvalidUtf8(std::string_view text);
inline bool IsValidUtf8(std::string_view text) { return FirstInvalidUtf8(text) == text.npos; }
// Replaces invalid sequences by U+FFFD, one for each maximal valid prefix of a character, as
// Python's errors="replace" does. Valid text is returned as it is.
std::string ToValidUtf8(std::string_view text);
// Returns the text as valid UTF-8 of at most so many bytes, 3 or more: cut between two characters,
// with … at its end, where it is longer.
std::string Shortened(std::string_view text, size_t most);

// Returns how many bytes the character has that starts with this byte of valid UTF-8.
inline size_t CharLength(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}
// Returns the character at text[pos]. text is valid UTF-8, and pos is a character's first byte.
char32_t DecodeChar(std::string_view text, size_t pos);
// Returns the first byte of the character that ends just before pos > 0.
size_t PreviousChar(std::string_view text, size_t pos);
void AppendUtf8(char32_t c, std::string* out);
size_t CountCharacters(std::string_view text);

// Whether c has the Unicode property White_Space.
bool IsWhiteSpace(char32_t c);
// Whether Python's str.isspace takes c for white space: the separators U+001C to U+001F are too.
bool IsPythonSpace(char32_t c);
// SkipWhiteSpace returns where the run of white space that starts at pos ends; SkipWhiteSpaceBack
// returns where the run that ends at pos starts.
using SpacePredicate = bool (*)(char32_t);
size_t SkipWhiteSpace(std::string_view text, size_t pos, SpacePredicate is_space = IsWhiteSpace);
size_t SkipWhiteSpaceBack(std::string_view text, size_t pos,
                          SpacePredicate is_space = IsWhiteSpace);

// Returns text with every occurrence of from, which is not empty, replaced by to, from left to
// right. None overlap.
std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to);

}  // namespace svdllm
