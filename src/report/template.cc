#include "report/template.h"

#include <sstream>

#include "report/assets.h"
#include "report/escape.h"

namespace svdllm {
namespace {

namespace mustache = kainjow::mustache;

// Finds names as ever, notes those that are not there, and knows the partials.
class Context : public mustache::context<std::string> {
 public:
  Context(const Data& data, std::vector<std::string>& problems)
      : context(&data), problems_(problems) {}

  const Data* get(const std::string& name) const override {
    const Data* found = context::get(name);
    if (!found) problems_.push_back("nothing is called " + name);
    return found;
  }
  const Data* get_partial(const std::string& name) const override {
    if (name == "head") return &head_;
    if (name == "conclusion") return &conclusion_;
    if (name == "measured") return &measured_;
    if (name == "sources") return &sources_;
    problems_.push_back("no partial is called " + name);
    return nullptr;
  }

 private:
  const Data head_ = kHeadPartial, conclusion_ = kConclusionPartial, measured_ = kMeasuredPartial,
             sources_ = kSourcesPartial;
  std::vector<std::string>& problems_;
};

std::string Render(const char* text, const Data& data, std::string (*escape)(std::string_view),
                   std::vector<std::string>* problems) {
  std::vector<std::string> ignored;
  if (!problems) problems = &ignored;
  mustache::mustache page(text);
  page.set_custom_escape([escape](const std::string& value) { return escape(value); });
  Context context(data, *problems);
  std::ostringstream rendered;
  page.render(context, rendered);
  if (!page.is_valid()) problems->push_back(page.error_message());
  return std::move(rendered).str();
}

}  // namespace

std::string RenderHtml(const char* text, const Data& data, std::vector<std::string>* problems) {
  return Render(text, data, Escape, problems);
}

std::string RenderMarkdown(const char* text, const Data& data, std::vector<std::string>* problems) {
  return Render(text, data, EscapeMarkdown, problems);
}

}  // namespace svdllm
