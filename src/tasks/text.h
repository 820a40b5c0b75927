// Text as Python's str has it: lm-evaluation-harness cleans, cuts and measures with these. Texts
// are valid UTF-8.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace svdllm {

// Without the white space (Python's) at both ends, or at the right one.
std::string_view StripSpace(std::string_view text);
std::string_view StripSpaceRight(std::string_view text);
// What stands between white space.
std::vector<std::string_view> SplitAtSpace(std::string_view text);
// What stands between separators, empty parts included.
std::vector<std::string_view> SplitAt(std::string_view text, char separator);

// Characters that have one other case change it.
std::string LowerCase(std::string_view text);
// The first character in upper case, the others in lower.
std::string Capitalize(std::string_view text);

}  // namespace svdllm
