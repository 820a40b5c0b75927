// Pieces of report.html: text that is safe to show. Everything made here is well-formed XML, so
// that any parser reads it.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/format.h"

namespace svdllm {

// For element content and quoted attributes: markup characters as entities; control characters and
// what is no UTF-8 as U+FFFD.
std::string Escape(std::string_view text);

// The following take plain text and escape it, but for content, which is markup.
std::string Card(const std::string& name, const std::string& figure, const std::string& detail,
                 const char* figure_class = "");
std::string Section(const std::string& title, const std::string& explanation,
                    const std::string& content);
std::string List(const std::vector<std::pair<std::string, std::string>>& items);
std::string Cell(const std::string& text);
std::string NumberCell(const std::string& text);

}  // namespace svdllm
