// Regular expressions over UTF-8 text, with the meaning that Python's re gives to the same ones.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace svdllm {

// Immutable and thread-safe.
class TextPattern {
 public:
  // Takes an expression of our own. One that does not compile is a bug, and aborts.
  explicit TextPattern(const char* pattern);

  // Returns, for each match from left to right, the whole match and its groups. matches[1][2] is
  // the second group of the second match, and matches[1][0] is all of that match. None overlap. A
  // group that took no part is empty. The views are of text.
  std::vector<std::vector<std::string_view>> FindAll(std::string_view text) const;

  // Returns text with every match replaced: $1 stands for a group, and \L and \U change case from
  // there on.
  std::string Replace(std::string_view text, const char* replacement) const;

 private:
  std::shared_ptr<const void> code_;  // pcre2_code
};

}  // namespace svdllm
