// How the sequences of a batch lie.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace svdllm {

// Sequences one after the other. A view: the spans' owners outlive it.
struct SequenceLayout {
  SequenceLayout(std::span<const int64_t> begins) : offsets(begins) {}     // NOLINT: mostly that
  SequenceLayout(const std::vector<int64_t>& begins) : offsets(begins) {}  // NOLINT: is all
  SequenceLayout(std::span<const int64_t> begins, std::span<const int64_t> of)
      : offsets(begins), parents(of) {}

  // As in Backend: sequence s is rows [offsets[s], offsets[s + 1]).
  std::span<const int64_t> offsets;
  // Empty, or one a sequence: sequence s goes on behind sequence parents[s] < s, which has no
  // parent itself (−1): it sees all of it, and its positions are counted on from there. What
  // several sequences begin with is computed once that way.
  std::span<const int64_t> parents;

  size_t sequences() const { return offsets.size() - 1; }
  int64_t Length(size_t s) const { return offsets[s + 1] - offsets[s]; }
  // Tokens in front of sequence s.
  int64_t FirstPosition(size_t s) const {
    return parents.empty() || parents[s] < 0 ? 0 : Length(static_cast<size_t>(parents[s]));
  }
};

// Every token's position. first: positions of the sequences' first tokens; empty: as the layout
// says.
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
