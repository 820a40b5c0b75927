// Where the reference tokenizers' Unicode tables differ from those of the libraries used here: its
// regular expressions know Unicode 16 and PCRE2 10.42 knows 14; its normalizer knows Unicode 9 and
// utf8proc 2.8 knows 15.
#pragma once

#include <string>
#include <string_view>

namespace svdllm {

// Replaces characters that the reference's regular expressions know and PCRE2 may not by ones of
// the same general category and UTF-8 length that both know, so that offsets stay. False, and *out
// left alone, where text has none.
bool SubstituteNewCharacters(std::string_view text, std::string* out);

// Whether the reference's normalizer leaves c alone, and what is around it apart, where Unicode
// today says that it decomposes, combines or is reordered.
bool UnknownToNormalizer(char32_t c);

}  // namespace svdllm
