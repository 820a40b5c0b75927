#include "tasks/text_pattern.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace svdllm {
namespace {

using MatchData = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;

PCRE2_SPTR Bytes(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

// The expressions are ours: on any text they take a bounded time, and few steps are nested. What
// PCRE2's own bound on steps would cut off are results.
pcre2_match_context* Patient() {
  static pcre2_match_context* const context = [] {
    pcre2_match_context* const made = pcre2_match_context_create(nullptr);
    pcre2_set_match_limit(made, UINT32_MAX);
    return made;
  }();
  return context;
}

const pcre2_code* Code(const std::shared_ptr<const void>& code) {
  return static_cast<const pcre2_code*>(code.get());
}

}  // namespace

TextPattern::TextPattern(const char* pattern) {
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* code =
      pcre2_compile(Bytes(pattern), PCRE2_ZERO_TERMINATED,
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
  if (code == nullptr) {
    std::fprintf(stderr, "TextPattern: %s does not compile\n", pattern);
    std::abort();
  }
  code_ = std::shared_ptr<const void>(
      code, [](const void* c) { pcre2_code_free(static_cast<pcre2_code*>(const_cast<void*>(c))); });
}

std::vector<std::vector<std::string_view>> TextPattern::FindAll(std::string_view text) const {
  std::vector<std::vector<std::string_view>> matches;
  const MatchData data(pcre2_match_data_create_from_pattern(Code(code_), nullptr),
                       &pcre2_match_data_free);
  for (size_t start = 0; start <= text.size();) {
    const int found =
        pcre2_match(Code(code_), Bytes(text), text.size(), start, 0, data.get(), Patient());
    if (found <= 0) break;
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(data.get());
    std::vector<std::string_view>& groups = matches.emplace_back();
    for (uint32_t i = 0; i < pcre2_get_ovector_count(data.get()); ++i) {
      const bool took_part = static_cast<int>(i) < found && bounds[2 * i] != PCRE2_UNSET;
      groups.push_back(took_part ? text.substr(bounds[2 * i], bounds[2 * i + 1] - bounds[2 * i])
                                 : std::string_view());
    }
    if (bounds[1] == bounds[0]) break;  // none of ours matches nothing
    start = bounds[1];
  }
  return matches;
}

std::string TextPattern::Replace(std::string_view text, const char* replacement) const {
  if (text.empty()) return "";
  const uint32_t options = PCRE2_SUBSTITUTE_GLOBAL | PCRE2_SUBSTITUTE_EXTENDED |
                           PCRE2_SUBSTITUTE_UNSET_EMPTY | PCRE2_SUBSTITUTE_OVERFLOW_LENGTH;
  std::string out(2 * text.size() + 64, '\0');
  for (int attempt = 0; attempt < 2; ++attempt) {
    PCRE2_SIZE size = out.size();
    const int count = pcre2_substitute(Code(code_), Bytes(text), text.size(), 0, options, nullptr,
                                       Patient(), Bytes(replacement), PCRE2_ZERO_TERMINATED,
                                       reinterpret_cast<PCRE2_UCHAR*>(out.data()), &size);
    if (count == PCRE2_ERROR_NOMEMORY) {  // size is what it takes
      out.resize(size + 1);
      continue;
    }
    if (count < 0) break;
    out.resize(size);
    return out;
  }
  return std::string(text);
}

}  // namespace svdllm
