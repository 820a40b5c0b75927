#include "tasks/text.h"

#include "base/utf8.h"
#include "tasks/text_pattern.h"

namespace svdllm {
std::string_view StripSpaceRight(std::string_view text) {
  return text.substr(0, SkipWhiteSpaceBack(text, text.size(), IsPythonSpace));
}

std::string_view StripSpace(std::string_view text) {
  return StripSpaceRight(text.substr(SkipWhiteSpace(text, 0, IsPythonSpace)));
}

std::vector<std::string_view> SplitAtSpace(std::string_view text) {
  std::vector<std::string_view> words;
  for (size_t end = 0;;) {
    const size_t begin = SkipWhiteSpace(text, end, IsPythonSpace);
    if (begin == text.size()) return words;
    for (end = begin; end < text.size() && !IsPythonSpace(DecodeChar(text, end));) {
      end += CharLength(text[end]);
    }
    words.push_back(text.substr(begin, end - begin));
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

std::string LowerCase(std::string_view text) {
  static const TextPattern everything("(?s).+");
  return everything.Replace(text, "\\L$0");
}

std::string Capitalize(std::string_view text) {
  static const TextPattern everything("(?s).+");
  const size_t first = text.empty() ? 0 : CharLength(text[0]);
  return everything.Replace(text.substr(0, first), "\\U$0") + LowerCase(text.substr(first));
}

}  // namespace svdllm
