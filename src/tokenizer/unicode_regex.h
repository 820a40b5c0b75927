// The regular expressions of tokenizer.json: written for Oniguruma, matched by PCRE2.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace svdllm {

struct Match {
  size_t begin = 0, end = 0;
};

// A compiled expression. Immutable, thread-safe.
class Regex {
 public:
  // UNIMPLEMENTED with reason UNSUPPORTED_TOKENIZER, naming the expression, for syntax that is
  // unknown or means different things to the two libraries.
  static absl::StatusOr<Regex> Compile(std::string_view oniguruma_pattern);
  // For our own expressions: PCRE2 syntax, and PCRE2's own view of which characters exist.
  static absl::StatusOr<Regex> CompilePcre(const std::string& pattern);

  // Appends the matches in text (valid UTF-8), left to right, none overlapping, none empty.
  void FindAll(std::string_view text, std::vector<Match>* matches) const;

 private:
  std::shared_ptr<const void> code_;  // pcre2_code
  bool substitute_ = false;
};

// The expression in PCRE2's syntax; the errors of Compile.
absl::StatusOr<std::string> TranslatePattern(std::string_view oniguruma_pattern);

}  // namespace svdllm
