#include "tokenizer/unicode_normalize.h"

#include <utf8proc.h>

#include <algorithm>
#include <vector>

#include "base/utf8.h"
#include "tokenizer/unicode_tables.h"

namespace svdllm {
namespace {

using CodePoints = std::vector<utf8proc_int32_t>;

int CombiningClass(utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; }

void AppendDecomposed(char32_t c, bool compatibility, CodePoints* out) {
  utf8proc_int32_t buffer[32];  // the longest decomposition has 18
  int boundary = 0;
  const int options = UTF8PROC_DECOMPOSE | (compatibility ? UTF8PROC_COMPAT : 0);
  const utf8proc_ssize_t n =
      utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), buffer, std::size(buffer),
                              static_cast<utf8proc_option_t>(options), &boundary);
  out->insert(out->end(), buffer, buffer + std::clamp<utf8proc_ssize_t>(n, 0, std::size(buffer)));
}

// Puts each run of combining marks in canonical order. utf8proc_map would do it in quadratic time.
void SortMarks(CodePoints* points) {
  for (auto it = points->begin(); it != points->end();) {
    if (CombiningClass(*it) == 0) {
      ++it;
      continue;
    }
    const auto first = it;
    while (it != points->end() && CombiningClass(*it) != 0) ++it;
    if (it - first > 1) {
      std::stable_sort(first, it, [](utf8proc_int32_t a, utf8proc_int32_t b) {
        return CombiningClass(a) < CombiningClass(b);
      });
    }
  }
}

// A span without characters unknown to the reference's normalizer.
void NormalizeSpan(NormalForm form, std::string_view span, CodePoints* scratch, std::string* out) {
  const bool compatibility = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  scratch->clear();
  for (size_t pos = 0; pos < span.size(); pos += CharLength(span[pos])) {
    AppendDecomposed(DecodeChar(span, pos), compatibility, scratch);
  }
  SortMarks(scratch);
  auto size = static_cast<utf8proc_ssize_t>(scratch->size());
  if (compose) {
    size = utf8proc_normalize_utf32(
        scratch->data(), size, static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
  }
  for (utf8proc_ssize_t i = 0; i < size; ++i) {
    AppendUtf8(static_cast<char32_t>((*scratch)[static_cast<size_t>(i)]), out);
  }
}

}  // namespace

std::string Normalize(NormalForm form, std::string_view text) {
  const auto is_ascii = [&](size_t i) { return static_cast<unsigned char>(text[i]) < 0x80; };
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  CodePoints scratch;
  size_t pos = 0;
  while (pos < text.size()) {
    // ASCII stays, but for the last character before something that may combine with it.
    size_t end = pos;
    while (end < text.size() && is_ascii(end)) ++end;
    if (end < text.size() && end > pos) --end;
    out.append(text.substr(pos, end - pos));
    if (end == text.size()) break;
    pos = end++;
    if (!is_ascii(pos)) end = pos;
    while (end < text.size() && !is_ascii(end)) {
      if (UnknownToNormalizer(DecodeChar(text, end))) break;
      end += CharLength(text[end]);
    }
    NormalizeSpan(form, text.substr(pos, end - pos), &scratch, &out);
    pos = end;
    while (pos < text.size() && !is_ascii(pos) && UnknownToNormalizer(DecodeChar(text, pos))) {
      const size_t length = CharLength(text[pos]);
      out.append(text.substr(pos, length));
      pos += length;
    }
  }
  return out;
}

}  // namespace svdllm
