// Sequences of token ids, and the batches in which they go through a block.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace svdllm {

// Sequences one after the other: sequence s is ids[offsets[s] .. offsets[s + 1]).
struct Sequences {
  std::vector<int32_t> ids;
  std::vector<int64_t> offsets = {0};
  // Empty, or one a sequence: the one that it goes on behind (SequenceLayout), or −1. Its parent
  // and the parent's other children stand side by side.
  std::vector<int64_t> parents;

  int64_t count() const { return static_cast<int64_t>(offsets.size()) - 1; }
  int64_t tokens() const { return offsets.back(); }
  int64_t length(int64_t s) const {
    return offsets[static_cast<size_t>(s) + 1] - offsets[static_cast<size_t>(s)];
  }
  int64_t parent(int64_t s) const { return parents.empty() ? -1 : parents[static_cast<size_t>(s)]; }
  // How many tokens stand in front of sequence s.
  int64_t first_position(int64_t s) const { return parent(s) < 0 ? 0 : length(parent(s)); }
  void Append(std::span<const int32_t> sequence, int64_t parent = -1);
};

// Consecutive sequences that go through a block together.
struct Batch {
  int64_t first_row = 0, rows = 0;
  std::vector<int64_t> offsets;  // within the batch
  std::vector<int64_t> parents;  // likewise, as in Sequences
};

// Batches of whole sequences, those with one parent and itself together, with at most max_tokens
// tokens (more where that is more).
std::vector<Batch> MakeBatches(const Sequences& sequences, int64_t max_tokens = 4096);

int64_t LargestBatch(const std::vector<Batch>& batches);  // rows

}  // namespace svdllm
