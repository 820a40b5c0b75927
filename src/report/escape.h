// Text of any origin, made safe for the place where it is shown.
#pragma once

#include <string>
#include <string_view>

namespace svdllm {

// For HTML and XML, element content and quoted attributes: markup characters as entities; control
// characters and what is no UTF-8 as U+FFFD.
std::string Escape(std::string_view text);

}  // namespace svdllm
