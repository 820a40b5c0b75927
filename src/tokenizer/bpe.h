// Byte-pair encoding of words: the model part of a tokenizer.
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

// Looks up by std::string_view without making a string.
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

// Immutable, thread-safe.
class BpeModel {
 public:
  BpeModel() = default;  // of no vocabulary

  using MergeList = std::vector<std::pair<std::string, std::string>>;

  // merges in order of rank, the first merges first; later duplicates win, as in the reference.
  // INVALID_ARGUMENT naming the token where a merge, its result or unk_token is not in vocabulary.
  static absl::StatusOr<BpeModel> Create(Vocabulary vocabulary, const MergeList& merges,
                                         const BpeOptions& options);

  // For vocabularies without a list of merges: any two tokens merge whose texts together are a
  // token, the one with the lowest id first; a word of the vocabulary is one token. Tokens are not
  // empty.
  static BpeModel FromRanks(Vocabulary ranks);

  // What the words of one text share. Not thread-safe; the words must outlive it.
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
    // Where in the output a word's tokens are already.
    absl::flat_hash_map<std::string_view, std::pair<size_t, size_t>, std::hash<std::string_view>>
        seen;
  };
  // Appends the tokens of word (valid UTF-8). All calls with one scratch append to the same ids.
  // O(n log n) for a word of n characters.
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
  std::vector<int32_t> char_ids_;  // of the characters below U+10000, -1 where there is none
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by the pair of ids
  std::array<int32_t, 256> byte_ids_{};          // of <0xNN>
  // The pairs of characters that some merge joins, the left token's last and the right one's first.
  // Between others a long word may be cut and its parts encoded on their own.
  absl::flat_hash_set<uint64_t> joints_;
  bool may_cut_ = true;
  BpeOptions options_;
  int32_t unk_id_ = -1;
};

}  // namespace svdllm
