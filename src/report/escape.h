// Text of any origin, made safe for the place where it is shown.
#pragma once

#include <string>
#include <string_view>

namespace svdllm {

// For HTML and XML, element content and quoted attributes: markup characters as entities; control
// characters and what is no UTF-8 as U+FFFD.
std::string Escape(std::string_view text);

// For a line of Markdown, table cells too: characters that would be links, emphasis, code, HTML or
// the end of a cell behind a backslash or as entities; line breaks as spaces; the rest as Escape
// does. Underscores stay as they are: inside a word, where names have them, they are no markup.
std::string EscapeMarkdown(std::string_view text);
// Text as code in Markdown, with the backticks around it: "`a`"; where there is a "<" in it, as
// EscapeMarkdown has it. Not for table cells.
std::string CodeSpan(std::string_view text);
// A YAML scalar, quoted where it has to be.
std::string YamlScalar(std::string_view text);

}  // namespace svdllm
