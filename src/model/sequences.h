// Sequences of token ids, and the batches in which they go through a block.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace svdllm {

// Sequences one after the other. Sequence s is ids[offsets[s]] to ids[offsets[s + 1] − 1]: with
// offsets {0, 5, 12}, sequence 1 is ids[5] to ids[11].
struct Sequences {
  std::vector<int32_t> ids;
  std::vector<int64_t> offsets = {0};
  // Empty, or one number per sequence: the sequence that it goes on behind (SequenceLayout), or −1.
  // A parent and all of its children stand side by side.
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
  std::vector<int64_t> parents;  // as in Sequences, and within the batch
};

// Makes batches of whole sequences. A parent and its children stay together. A batch has at most
// max_tokens tokens, or more where one sequence with its family has more.
std::vector<Batch> MakeBatches(const Sequences& sequences, int64_t max_tokens = 4096);

int64_t LargestBatch(const std::vector<Batch>& batches);  // rows

}  // namespace svdllm
