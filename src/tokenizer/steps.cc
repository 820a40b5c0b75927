#include "tokenizer/steps.h"

#include <algorithm>
#include <array>

#include "base/utf8.h"

namespace svdllm {
namespace {

template <typename... Ts>
struct Overloaded : Ts... {
  using Ts::operator()...;
};
template <typename... Ts>
Overloaded(Ts...) -> Overloaded<Ts...>;

absl::Status FindAll(const Pattern& pattern, std::string_view text, std::vector<Match>* matches) {
  if (const auto* regex = std::get_if<Regex>(&pattern)) return regex->FindAll(text, matches);
  const std::string& literal = std::get<std::string>(pattern);
  for (size_t pos = 0; (pos = text.find(literal, pos)) != text.npos; pos += literal.size()) {
    matches->push_back({pos, pos + literal.size()});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Replace(const ReplaceInText& step, const std::string& text) {
  std::vector<Match> matches;
  RETURN_IF_ERROR(FindAll(step.pattern, text, &matches));
  std::string out;
  size_t pos = 0;
  for (const Match& match : matches) {
    out.append(text, pos, match.begin - pos).append(step.content);
    pos = match.end;
  }
  return out.append(text, pos);
}

std::string Strip(const StripText& step, const std::string& text) {
  const size_t begin = step.left ? SkipWhiteSpace(text, 0) : 0;
  const size_t end = step.right ? SkipWhiteSpaceBack(text, text.size()) : text.size();
  return begin < end ? text.substr(begin, end - begin) : std::string();
}

struct Part {
  Match at;
  bool matched = false;
};

// The matches and what lies between them.
absl::Status Cut(const SplitWords& step, std::string_view text, std::vector<Match>* scratch,
                 std::vector<Part>* parts) {
  scratch->clear();
  parts->clear();
  RETURN_IF_ERROR(FindAll(step.pattern, text, scratch));
  size_t pos = 0;
  for (const Match& match : *scratch) {
    if (match.begin > pos) parts->push_back({{pos, match.begin}, step.invert});
    parts->push_back({match, !step.invert});
    pos = match.end;
  }
  if (pos < text.size()) parts->push_back({{pos, text.size()}, step.invert});
  return absl::OkStatus();
}

// Joins parts that belong together and drops those to be removed.
void Arrange(SplitBehavior behavior, std::vector<Part>* parts) {
  std::vector<Part> out;
  bool previous_matched = false;
  const auto append = [&out](const Part& part, bool join) {
    if (join && !out.empty()) {
      out.back().at.begin = std::min(out.back().at.begin, part.at.begin);
      out.back().at.end = std::max(out.back().at.end, part.at.end);
    } else {
      out.push_back(part);
    }
  };
  switch (behavior) {
    case SplitBehavior::kIsolated:
      return;
    case SplitBehavior::kRemoved:
      std::erase_if(*parts, [](const Part& part) { return part.matched; });
      return;
    case SplitBehavior::kContiguous:
      for (const Part& part : *parts) {
        append(part, part.matched == previous_matched);
        previous_matched = part.matched;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Part& part : *parts) {
        append(part, part.matched && !previous_matched);
        previous_matched = part.matched;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto part = parts->rbegin(); part != parts->rend(); ++part) {
        append(*part, part->matched && !previous_matched);
        previous_matched = part->matched;
      }
      std::reverse(out.begin(), out.end());
      break;
  }
  *parts = std::move(out);
}

absl::Status Split(const SplitWords& step, std::vector<Word>* words) {
  std::vector<Word> out;
  out.reserve(words->size() * 2);
  std::vector<Match> matches;
  std::vector<Part> parts;
  for (const Word& word : *words) {
    RETURN_IF_ERROR(Cut(step, word.text, &matches, &parts));
    Arrange(step.behavior, &parts);
    for (const Part& part : parts) {
      out.push_back({word.text.substr(part.at.begin, part.at.end - part.at.begin),
                     word.at_start && part.at.begin == 0});
    }
  }
  *words = std::move(out);
  return absl::OkStatus();
}

void Prepend(const PrependToWords& step, std::vector<Word>* words, WordStorage* storage) {
  for (Word& word : *words) {
    if (step.only_at_start && !word.at_start) continue;
    if (word.text.substr(0, step.text.size()) == step.text) continue;
    word.text = storage->emplace_back(step.text + std::string(word.text));
  }
}

// Bytes that are printable in Latin-1 stand for themselves, the others, in order, for U+0100 on.
std::array<std::string, 256> MakeByteCharacters() {
  std::array<std::string, 256> characters;
  char32_t next = 0x100;
  for (char32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);
    AppendUtf8(printable ? byte : next++, &characters[byte]);
  }
  return characters;
}

void Map(std::vector<Word>* words, WordStorage* storage) {
  const auto& characters = ByteCharacters();
  size_t bytes = 0;
  for (const Word& word : *words) bytes += word.text.size();
  std::string& buffer = storage->emplace_back();
  buffer.reserve(2 * bytes);  // words point into it: it must not grow
  for (Word& word : *words) {
    const size_t begin = buffer.size();
    for (const char byte : word.text) buffer.append(characters[static_cast<unsigned char>(byte)]);
    word.text = std::string_view(buffer).substr(begin);
  }
}

}  // namespace

const std::array<std::string, 256>& ByteCharacters() {
  static const std::array<std::string, 256> characters = MakeByteCharacters();
  return characters;
}

absl::StatusOr<std::string> ApplyNormalizer(const std::vector<NormalizerStep>& steps,
                                            std::string_view text) {
  using Result = absl::StatusOr<std::string>;
  std::string out(text);
  for (const NormalizerStep& step : steps) {
    if (out.empty()) break;
    ASSIGN_OR_RETURN(
        out,
        std::visit(
            Overloaded{[&](NormalForm form) -> Result { return Normalize(form, out); },
                       [&](const PrependToText& prepend) -> Result { return prepend.text + out; },
                       [&](const ReplaceInText& replace) { return Replace(replace, out); },
                       [&](const StripText& strip) -> Result { return Strip(strip, out); }},
            step));
  }
  return out;
}

absl::Status ApplyPreTokenizer(const PreTokenizerStep& step, std::vector<Word>* words,
                               WordStorage* storage) {
  if (const auto* const split = std::get_if<SplitWords>(&step)) return Split(*split, words);
  std::visit(Overloaded{[](const SplitWords&) {},
                        [&](const ReplaceInWords& replace) {
                          for (Word& word : *words) {
                            word.text = storage->emplace_back(
                                ReplaceAll(word.text, replace.from, replace.to));
                          }
                        },
                        [&](const PrependToWords& prepend) { Prepend(prepend, words, storage); },
                        [&](const MapBytes&) { Map(words, storage); }},
             step);
  return absl::OkStatus();
}

}  // namespace svdllm
