// Where the reference tokenizers' Unicode tables differ from those of the libraries used here. Its
// regular expressions know Unicode 16, and PCRE2 10.42 knows 14. Its normalizer knows Unicode 9,
// and utf8proc 2.8 knows 15.
#pragma once

#include <string>
#include <string_view>

namespace svdllm {

// Replaces characters that the reference's regular expressions know and PCRE2 may not know. Each
// becomes one of the same general category and UTF-8 length that both know, so that offsets stay.
// Returns false, and leaves *out alone, where text has none.
bool SubstituteNewCharacters(std::string_view text, std::string* out);

// Whether the reference's normalizer leaves c alone, and keeps apart what is around it, where
// Unicode says today that it decomposes, combines or is reordered.
bool UnknownToNormalizer(char32_t c);

}  // namespace svdllm
