// How the sequences of a batch lie in its rows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace svdllm {

// Sequences one after the other. The members are views: the spans' owners outlive it.
struct SequenceLayout {
  SequenceLayout(std::span<const int64_t> begins) : offsets(begins) {}     // NOLINT: mostly that
  SequenceLayout(const std::vector<int64_t>& begins) : offsets(begins) {}  // NOLINT: is all
  SequenceLayout(std::span<const int64_t> begins, std::span<const int64_t> of)
      : offsets(begins), parents(of) {}

  // As in Backend, sequence s is rows [offsets[s], offsets[s + 1]).
  std::span<const int64_t> offsets;
  // Empty, or one number per sequence. Sequence s goes on behind sequence parents[s] < s, which has
  // no parent itself: it sees all of it, and its positions are counted on from there. −1 means no
  // parent. So what several sequences begin with is computed once. With offsets {0, 6, 8, 11} and
  // parents {−1, 0, 0}, rows 6 and 7 are at positions 6 and 7 behind sequence 0, and rows 8 to 10
  // are at positions 6 to 8 behind it.
  std::span<const int64_t> parents;

  size_t sequences() const { return offsets.size() - 1; }
  int64_t Length(size_t s) const { return offsets[s + 1] - offsets[s]; }
  // How many tokens stand in front of sequence s.
  int64_t FirstPosition(size_t s) const {
    return parents.empty() || parents[s] < 0 ? 0 : Length(static_cast<size_t>(parents[s]));
  }
};

// Returns every token's position. `first` has the positions of the sequences' first tokens; where
// it is empty the layout says them.
inline std::vector<int64_t> Positions(const SequenceLayout& layout,
                                      std::span<const int64_t> first = {}) {
  std::vector<int64_t> positions;
  for (size_t s = 0; s < layout.sequences(); ++s) {
    const int64_t begin = first.empty() ? layout.FirstPosition(s) : first[s];
    for (int64_t t = 0; t < layout.Length(s); ++t) positions.push_back(begin + t);
  }
  return positions;
}

}  // namespace svdllm
