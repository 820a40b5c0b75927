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

// A compiled expression. Immutable and thread-safe.
class Regex {
 public:
  // UNIMPLEMENTED with reason UNSUPPORTED_TOKENIZER, naming the expression, for syntax that is
  // unknown or that means different things to the two libraries.
  static absl::StatusOr<Regex> Compile(std::string_view oniguruma_pattern);
  // For our own expressions, in PCRE2's syntax and with PCRE2's own view of which characters exist.
  static absl::StatusOr<Regex> CompilePcre(const std::string& pattern);

  // Appends the matches in text, which is valid UTF-8, from left to right. None overlap and none
  // are empty. UNIMPLEMENTED with reason UNSUPPORTED_TOKENIZER, naming the expression and the
  // limit, where finding them takes more steps or memory than PCRE2 is given: what was found until
  // then would be other words than the reference's.
  absl::Status FindAll(std::string_view text, std::vector<Match>* matches) const;

 private:
  std::shared_ptr<const void> code_;  // pcre2_code
  std::string pattern_;               // as it was given
  bool substitute_ = false;
};

// Returns the expression in PCRE2's syntax. Errors are those of Compile.
absl::StatusOr<std::string> TranslatePattern(std::string_view oniguruma_pattern);

}  // namespace svdllm
