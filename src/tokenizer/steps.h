// The steps before the model: normalizers rewrite a text, and pre-tokenizers cut it into words. The
// reference's components are built from these few steps.
#pragma once

#include <array>
#include <deque>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenizer/unicode_normalize.h"
#include "tokenizer/unicode_regex.h"

namespace svdllm {

// What to look for: a literal text, which is not empty, or an expression.
using Pattern = std::variant<std::string, Regex>;

struct PrependToText {
  std::string text;
};
struct ReplaceInText {
  Pattern pattern;
  std::string content;
};
struct StripText {
  bool left = true, right = true;
};
using NormalizerStep = std::variant<NormalForm, PrependToText, ReplaceInText, StripText>;

// text is valid UTF-8. An empty text stays empty. The errors of Regex::FindAll.
absl::StatusOr<std::string> ApplyNormalizer(const std::vector<NormalizerStep>& steps,
                                            std::string_view text);

// What becomes of the parts of a text that a pattern matches.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct SplitWords {
  Pattern pattern;
  SplitBehavior behavior = SplitBehavior::kIsolated;
  bool invert = false;  // the parts between the matches count as the matches
};
struct ReplaceInWords {
  std::string from, to;
};
// Puts text in front of each word that does not start with it.
struct PrependToWords {
  std::string text;
  bool only_at_start = false;  // only the word that the whole text starts with
};
// Each byte becomes the printable character that byte-level vocabularies write for it.
struct MapBytes {};
// These characters, by byte.
const std::array<std::string, 256>& ByteCharacters();
using PreTokenizerStep = std::variant<SplitWords, ReplaceInWords, PrependToWords, MapBytes>;

// A part of a text. It lies in the text itself or in the storage.
struct Word {
  std::string_view text;
  bool at_start = false;  // the whole text starts with it
};
// Texts that the words of one text need kept while they are used.
using WordStorage = std::deque<std::string>;

// The errors of Regex::FindAll.
absl::Status ApplyPreTokenizer(const PreTokenizerStep& step, std::vector<Word>* words,
                               WordStorage* storage);

}  // namespace svdllm
