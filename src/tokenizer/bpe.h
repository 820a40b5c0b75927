// Byte-pair encoding of words. It is the model part of a tokenizer.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "base/status.h"

namespace svdllm {

// A hash that looks up a std::string_view without making a string.
struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
};
using Vocabulary = absl::flat_hash_map<std::string, int32_t, StringHash, std::equal_to<>>;

struct BpeOptions {
  bool ignore_merges = false;            // a word that is in the vocabulary is one token
  bool byte_fallback = false;            // characters outside the vocabulary become <0xNN> tokens
  bool fuse_unk = false;                 // neighbouring unknown characters become one token
  std::optional<std::string> unk_token;  // without one, unknown characters vanish
};

// Immutable and thread-safe.
class BpeModel {
 public:
  BpeModel() = default;  // it has no vocabulary

  using MergeList = std::vector<std::pair<std::string, std::string>>;

  // merges are in order of rank: merges[0] is merged first, and joins merges[0].first with
  // merges[0].second. Later duplicates win, as in the reference. INVALID_ARGUMENT, naming the
  // token, where a merge, its result or unk_token is not in the vocabulary.
  static absl::StatusOr<BpeModel> Create(Vocabulary vocabulary, const MergeList& merges,
                                         const BpeOptions& options);

  // For vocabularies without a list of merges. Any two tokens merge whose texts together are a
  // token, the one with the lowest id first. A word of the vocabulary is one token. No token is
  // empty.
  static BpeModel FromRanks(Vocabulary ranks);

  // What the words of one text share. Not thread-safe. The words must outlive it.
  struct Scratch {
    struct Symbol {
      int32_t id, previous, next;
    };
    struct Candidate {
      uint64_t rank_and_pos;  // rank in the upper half: the lowest is the next merge
      int32_t id;
      bool operator>(const Candidate& other) const { return rank_and_pos > other.rank_and_pos; }
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
    // The places [first, second) of a word's tokens in the output, for words that were encoded
    // already.
    absl::flat_hash_map<std::string_view, std::pair<size_t, size_t>, std::hash<std::string_view>>
        seen;
  };
  // Appends the tokens of word, which is valid UTF-8. All calls with one scratch append to the same
  // ids. A word of n characters takes O(n log n).
  void Encode(std::string_view word, Scratch* scratch, std::vector<int32_t>* ids) const;

  std::optional<int32_t> Find(std::string_view token) const;
  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    int32_t rank, id;
  };
  BpeModel(Vocabulary vocabulary, const BpeOptions& options);
  int32_t CharId(std::string_view c) const;
  bool MayJoin(std::string_view left, std::string_view right) const;
  void EncodePart(std::string_view word, Scratch* scratch, std::vector<int32_t>* ids) const;
  void EncodeLong(std::string_view word, Scratch* scratch, std::vector<int32_t>* ids) const;
  void SplitCharacters(std::string_view word, std::vector<Scratch::Symbol>* symbols) const;
  void MergeSymbols(Scratch* scratch) const;
  void PushCandidate(int32_t pos, Scratch* scratch) const;

  Vocabulary vocabulary_;
  std::vector<int32_t> char_ids_;  // by character, those below U+10000; -1 where there is none
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by the pair of ids
  std::array<int32_t, 256> byte_ids_{};          // by byte: the id of <0xNN>
  // The pairs of characters that some merge joins: the left token's last one and the right token's
  // first one. Between any other pair a long word may be cut, and its parts encoded on their own.
  absl::flat_hash_set<uint64_t> joints_;
  bool may_cut_ = true;
  BpeOptions options_;
  int32_t unk_id_ = -1;
};

}  // namespace svdllm
