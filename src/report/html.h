// Pieces of report.html: text that is safe to show. Everything made here is well-formed XML, so
// that any parser reads it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace svdllm {

// For element content and quoted attributes: markup characters as entities; control characters and
// what is no UTF-8 as U+FFFD.
std::string Escape(std::string_view text);

// Figures for people: "–" where one is not finite.
std::string Number(double value, int digits = 4);
std::string Rate(double a_second);                // "1234", "56.7", "0.123"
std::string Count(int64_t count);                 // "134.5 M"
std::string Bytes(int64_t bytes);                 // "269.1 MB"
std::string Seconds(double seconds);              // "3 min 07 s"
std::string Change(double before, double after);  // "-16.0 %"

// The following take plain text and escape it, but for content, which is markup.
std::string Card(const std::string& name, const std::string& figure, const std::string& detail,
                 const char* figure_class = "");
std::string Section(const std::string& title, const std::string& explanation,
                    const std::string& content);
std::string List(const std::vector<std::pair<std::string, std::string>>& items);
std::string Cell(const std::string& text);
std::string NumberCell(const std::string& text);

}  // namespace svdllm
