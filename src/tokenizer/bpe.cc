#include "tokenizer/bpe.h"

#include <algorithm>

#include "base/utf8.h"

namespace svdllm {
namespace {

// Longer words hardly come again as a whole: their parts do.
constexpr size_t kLongestRemembered = 256;

uint64_t PairKey(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }
uint64_t PairKey(int32_t left, int32_t right) {
  return PairKey(static_cast<uint32_t>(left), static_cast<uint32_t>(right));
}

std::string ByteToken(unsigned byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return {'<', '0', 'x', kDigits[byte >> 4], kDigits[byte & 15], '>'};
}

}  // namespace

BpeModel::BpeModel(Vocabulary vocabulary, const BpeOptions& options)
    : vocabulary_(std::move(vocabulary)), options_(options) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = Find(ByteToken(byte)).value_or(-1);
  }
  char_ids_.assign(0x10000, -1);
  for (const auto& [token, id] : vocabulary_) {
    if (token.empty() || token.size() != CharLength(token[0])) continue;
    const char32_t c = DecodeChar(token, 0);
    if (c < char_ids_.size()) char_ids_[c] = id;
  }
}

BpeModel BpeModel::FromRanks(Vocabulary ranks) {
  BpeOptions options;
  options.ignore_merges = true;
  BpeModel model(std::move(ranks), options);
  model.may_cut_ = false;
  for (const auto& [token, id] : model.vocabulary_) {
    for (size_t cut = CharLength(token[0]); cut < token.size(); cut += CharLength(token[cut])) {
      const auto left = model.Find(std::string_view(token).substr(0, cut));
      const auto right = model.Find(std::string_view(token).substr(cut));
      if (left && right) model.merges_[PairKey(*left, *right)] = {id, id};
    }
  }
  return model;
}

absl::StatusOr<BpeModel> BpeModel::Create(Vocabulary vocabulary, const MergeList& merges,
                                          const BpeOptions& options) {
  BpeModel model(std::move(vocabulary), options);
  const auto require = [&model](const std::string& token) -> absl::StatusOr<int32_t> {
    if (const auto id = model.Find(token)) return *id;
    return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                     "token not in the vocabulary: " + token);
  };
  if (options.unk_token) {
    ASSIGN_OR_RETURN(model.unk_id_, require(*options.unk_token));
  }
  // A word may be cut only where its parts' tokens are the word's: not if it may be one token as a
  // whole, nor if tokens that are not spelled as their text take part in merges.
  model.may_cut_ = !options.ignore_merges;
  const auto spelled = [&](int32_t id) {
    return id != model.unk_id_ &&
           std::count(model.byte_ids_.begin(), model.byte_ids_.end(), id) == 0;
  };
  model.merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    ASSIGN_OR_RETURN(const int32_t left_id, require(left));
    ASSIGN_OR_RETURN(const int32_t right_id, require(right));
    ASSIGN_OR_RETURN(const int32_t id, require(left + right));
    model.merges_[PairKey(left_id, right_id)] = {static_cast<int32_t>(rank), id};
    if (left.empty() || right.empty() || !spelled(left_id) || !spelled(right_id)) {
      model.may_cut_ = false;
    } else {
      model.joints_.insert(
          PairKey(static_cast<uint32_t>(DecodeChar(left, PreviousChar(left, left.size()))),
                  static_cast<uint32_t>(DecodeChar(right, 0))));
    }
  }
  return model;
}

std::optional<int32_t> BpeModel::Find(std::string_view token) const {
  const auto it = vocabulary_.find(token);
  if (it == vocabulary_.end()) return std::nullopt;
  return it->second;
}

int32_t BpeModel::CharId(std::string_view c) const {
  const char32_t value = DecodeChar(c, 0);
  return value < char_ids_.size() ? char_ids_[value] : Find(c).value_or(-1);
}

void BpeModel::SplitCharacters(std::string_view word, std::vector<Scratch::Symbol>* symbols) const {
  symbols->clear();
  const auto add = [symbols](int32_t id) {
    const auto pos = static_cast<int32_t>(symbols->size());
    symbols->push_back({id, pos - 1, pos + 1});
  };
  bool unknown = false;  // one is waiting to be added, perhaps with those that follow
  for (size_t pos = 0; pos < word.size();) {
    const std::string_view c = word.substr(pos, CharLength(word[pos]));
    pos += c.size();
    const int32_t id = CharId(c);
    if (id >= 0) {
      if (unknown) add(unk_id_);
      unknown = false;
      add(id);
      continue;
    }
    if (options_.byte_fallback && std::all_of(c.begin(), c.end(), [this](char byte) {
          return byte_ids_[static_cast<unsigned char>(byte)] >= 0;
        })) {
      // The reference adds these before an unknown that waits.
      for (const char byte : c) add(byte_ids_[static_cast<unsigned char>(byte)]);
      continue;
    }
    if (unk_id_ < 0) continue;
    if (unknown && !options_.fuse_unk) add(unk_id_);
    unknown = true;
  }
  if (unknown) add(unk_id_);
  if (!symbols->empty()) symbols->back().next = -1;
}

void BpeModel::PushCandidate(int32_t pos, Scratch* scratch) const {
  const Scratch::Symbol& left = scratch->symbols[static_cast<size_t>(pos)];
  const Scratch::Symbol& right = scratch->symbols[static_cast<size_t>(left.next)];
  const auto it = merges_.find(PairKey(left.id, right.id));
  if (it == merges_.end()) return;
  scratch->heap.push_back(
      {static_cast<uint64_t>(it->second.rank) << 32 | static_cast<uint32_t>(pos), it->second.id});
}

void BpeModel::MergeSymbols(Scratch* scratch) const {
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  heap.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) PushCandidate(static_cast<int32_t>(i), scratch);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](int32_t pos) {
    const size_t before = heap.size();
    PushCandidate(pos, scratch);
    if (heap.size() > before) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    const auto pos = static_cast<int32_t>(top.rank_and_pos & 0xffffffff);
    Scratch::Symbol& left = symbols[static_cast<size_t>(pos)];
    if (left.id < 0 || left.next < 0) continue;
    Scratch::Symbol& right = symbols[static_cast<size_t>(left.next)];
    // Stale: one of the two has been merged since.
    const auto it = merges_.find(PairKey(left.id, right.id));
    if (it == merges_.end() || it->second.id != top.id) continue;
    left.id = top.id;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = pos;
    if (left.previous >= 0) push(left.previous);
    if (left.next >= 0) push(pos);
  }
}

bool BpeModel::MayJoin(std::string_view left, std::string_view right) const {
  // Unknown characters may fuse.
  if (CharId(left) < 0 || CharId(right) < 0) return true;
  return joints_.contains(PairKey(static_cast<uint32_t>(DecodeChar(left, 0)),
                                  static_cast<uint32_t>(DecodeChar(right, 0))));
}

void BpeModel::EncodeLong(std::string_view word, Scratch* scratch,
                          std::vector<int32_t>* ids) const {
  size_t begin = 0;
  size_t last = 0;
  for (size_t pos = CharLength(word[0]); pos < word.size();) {
    const size_t length = CharLength(word[pos]);
    if (!MayJoin(word.substr(last, pos - last), word.substr(pos, length))) {
      EncodePart(word.substr(begin, pos - begin), scratch, ids);
      begin = pos;
    }
    last = pos;
    pos += length;
  }
  EncodePart(word.substr(begin), scratch, ids);
}

void BpeModel::Encode(std::string_view word, Scratch* scratch, std::vector<int32_t>* ids) const {
  if (may_cut_ && word.size() > kLongestRemembered) {
    EncodeLong(word, scratch, ids);
  } else {
    EncodePart(word, scratch, ids);
  }
}

void BpeModel::EncodePart(std::string_view word, Scratch* scratch,
                          std::vector<int32_t>* ids) const {
  const bool remember = word.size() <= kLongestRemembered;
  if (remember) {
    const auto it = scratch->seen.find(word);
    if (it != scratch->seen.end()) {
      const auto [begin, count] = it->second;
      for (size_t i = 0; i < count; ++i) ids->push_back((*ids)[begin + i]);
      return;
    }
  }
  const size_t begin = ids->size();
  if (const auto id = options_.ignore_merges ? Find(word) : std::nullopt) {
    ids->push_back(*id);
  } else {
    SplitCharacters(word, &scratch->symbols);
    MergeSymbols(scratch);
    for (const Scratch::Symbol& symbol : scratch->symbols) {
      if (symbol.id >= 0) ids->push_back(symbol.id);
    }
  }
  if (remember) scratch->seen.emplace(word, std::make_pair(begin, ids->size() - begin));
}

}  // namespace svdllm
