// Added tokens: those found in a text as they are written, before the model sees it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace svdllm {

struct AddedToken {
  std::string content;
  int32_t id = -1;
  bool single_word = false;  // not where it touches a word character
  bool lstrip = false;       // takes the white space in front of it with it
  bool rstrip = false;       // and the white space after it
  bool normalized = false;   // looked for in the normalized text
  bool special = false;
  bool additional = false;  // special, and of no role that has a name
};

// Finds added tokens in a text. Immutable, thread-safe.
class AddedTokenFinder {
 public:
  // separators_are_spaces: U+001C to U+001F count as white space, as they do in Python.
  explicit AddedTokenFinder(bool separators_are_spaces = false)
      : separators_are_spaces_(separators_are_spaces) {}

  void Add(const AddedToken& token, std::string_view written);

  // The text cut into parts, in order; id ≥ 0 for an added token, −1 for other text. At each place
  // the longest token wins.
  struct Part {
    std::string_view text;
    int32_t id = -1;
  };
  std::vector<Part> Split(std::string_view text) const;

 private:
  struct Node {
    std::map<char, size_t> next;
    int token = -1;
  };
  // The token that text[pos] starts, and where it ends; -1 for none.
  int LongestAt(std::string_view text, size_t pos, size_t* end) const;

  bool separators_are_spaces_;
  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_{1};  // a trie of bytes
};

}  // namespace svdllm
