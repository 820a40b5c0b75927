// Regular expressions over UTF-8 text, with the meaning that Python's re gives to the same ones.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace svdllm {

// Immutable, thread-safe.
class TextPattern {
 public:
  // An expression of ours: one that does not compile is a bug, and aborts.
  explicit TextPattern(const char* pattern);

  // Of each match, left to right, none overlapping: the whole and the groups; a group that took no
  // part is empty. The views are of text.
  std::vector<std::vector<std::string_view>> FindAll(std::string_view text) const;

  // Every match replaced: $1 stands for a group, \L and \U change case from there on.
  std::string Replace(std::string_view text, const char* replacement) const;

 private:
  std::shared_ptr<const void> code_;  // pcre2_code
};

}  // namespace svdllm
