#include "tokenizer/added.h"

#include <algorithm>

#include "base/utf8.h"
#include "tokenizer/unicode_regex.h"

namespace svdllm {
namespace {

bool IsWordCharacter(std::string_view c) {
  static const absl::StatusOr<Regex> word =
      Regex::Compile("[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}]");
  std::vector<Match> matches;
  if (word.ok()) word->FindAll(c, &matches).IgnoreError();  // a character reaches no limit
  return !matches.empty();
}

bool TouchesWord(std::string_view text, size_t begin, size_t end) {
  if (begin > 0) {
    const size_t previous = PreviousChar(text, begin);
    if (IsWordCharacter(text.substr(previous, begin - previous))) return true;
  }
  return end < text.size() && IsWordCharacter(text.substr(end, CharLength(text[end])));
}

}  // namespace

void AddedTokenFinder::Add(const AddedToken& token, std::string_view written) {
  if (written.empty()) return;
  size_t node = 0;
  for (const char byte : written) {
    const auto [it, inserted] = nodes_[node].next.emplace(byte, nodes_.size());
    node = it->second;
    if (inserted) nodes_.emplace_back();
  }
  nodes_[node].token = static_cast<int>(tokens_.size());
  tokens_.push_back(token);
}

int AddedTokenFinder::LongestAt(std::string_view text, size_t pos, size_t* end) const {
  int token = -1;
  size_t node = 0;
  for (size_t i = pos; i < text.size(); ++i) {
    const auto it = nodes_[node].next.find(text[i]);
    if (it == nodes_[node].next.end()) break;
    node = it->second;
    if (nodes_[node].token < 0) continue;
    token = nodes_[node].token;
    *end = i + 1;
  }
  return token;
}

std::vector<AddedTokenFinder::Part> AddedTokenFinder::Split(std::string_view text) const {
  const SpacePredicate is_space = separators_are_spaces_ ? IsPythonSpace : IsWhiteSpace;
  std::vector<Part> parts;
  std::string first_bytes;
  for (const auto& [byte, node] : nodes_[0].next) first_bytes.push_back(byte);
  size_t done = 0;
  for (size_t pos = 0;;) {
    pos = first_bytes.empty() ? text.npos : text.find_first_of(first_bytes, pos);
    if (pos == text.npos) break;
    size_t match_end = pos;
    const int index = LongestAt(text, pos, &match_end);
    if (index < 0) {
      ++pos;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(index)];
    size_t begin = pos;
    size_t end = match_end;
    pos = match_end;
    if (token.single_word && TouchesWord(text, begin, end)) continue;
    if (token.lstrip) begin = SkipWhiteSpaceBack(text, begin, is_space);
    if (token.rstrip) end = SkipWhiteSpace(text, end, is_space);
    begin = std::max(begin, done);  // white space that the last token took
    end = std::max(end, begin);
    if (begin > done) parts.push_back({text.substr(done, begin - done), -1});
    parts.push_back({text.substr(begin, end - begin), token.id});
    done = std::max(done, end);
  }
  if (done < text.size()) parts.push_back({text.substr(done), -1});
  return parts;
}

}  // namespace svdllm
