// Text as Python's str treats it: lm-evaluation-harness cleans, cuts and measures with these. Texts
// are valid UTF-8.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace svdllm {

// Return text without the white space (Python's) at both ends, or at the right end.
std::string_view StripSpace(std::string_view text);
std::string_view StripSpaceRight(std::string_view text);
// Returns the parts between white space.
std::vector<std::string_view> SplitAtSpace(std::string_view text);
// Returns the parts between separators, empty ones included.
std::vector<std::string_view> SplitAt(std::string_view text, char separator);

// Returns text in lower case. Characters whose lower case is one character change.
std::string LowerCase(std::string_view text);
// The first character in upper case, the others in lower.
std::string Capitalize(std::string_view text);

}  // namespace svdllm
