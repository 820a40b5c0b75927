// The templates of assets/, which say all that is not measured, and the data that fills them in:
// whoever changes a text or the order of a page writes no C++. The language is Mustache.
#pragma once

#include <kainjow/mustache.hpp>
#include <string>
#include <vector>

namespace svdllm {

// A string, a list, an object, or true or false. A number would silently be taken for true: format
// it.
using Data = kainjow::mustache::data;
using DataObject = kainjow::mustache::object;
using DataList = kainjow::mustache::list;

// What a name is set to where there is nothing to show: its section is left out. To leave the name
// itself out would make it look like a mistake of the template.
inline Data Nothing() { return Data(false); }

// A template with its data. {{name}} is escaped, for HTML or for Markdown; {{{name}}} is markup
// that C++ has made. problems, where given, gets what is wrong with the template: a tag that does
// not end, a name that is not set. Rendering passes over both.
std::string RenderHtml(const char* text, const Data& data,
                       std::vector<std::string>* problems = nullptr);
std::string RenderMarkdown(const char* text, const Data& data,
                           std::vector<std::string>* problems = nullptr);

}  // namespace svdllm
