// One decoder layer's weights in a backend's memory.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "linalg/backend.h"
#include "model/sequence_layout.h"

namespace svdllm {

// y = W x + bias with W [out, in], held whole, as W = b a, or pivoted: the rows of W are those of a
// and of b a, in an order.
//
// Weights are of the backend's WeightType for what is stored.
struct Linear {
  Matrix w;      // [out, in]; empty where factored
  Matrix a, b;   // [rank, in], [out, rank] (pivoted: [out − rank, rank]); empty where whole
  Matrix order;  // I32 [1, out], PivotedOrder; pivoted only
  Matrix bias;   // F32 [1, out]; empty where there is none

  bool factored() const { return !a.empty(); }
  bool pivoted() const { return !order.empty(); }
  DType dtype() const { return factored() ? a.dtype() : w.dtype(); }
};

// Of the architecture's NormKind.
struct Norm {
  Matrix weight;  // F32 [1, n], what x is multiplied with; empty: there is no such norm
  Matrix bias;    // F32 [1, n]; kLayer only
  bool empty() const { return weight.empty(); }
};

struct Block {
  int64_t layer = 0;                                        // its number in the model
  Norm attn_norm, mlp_norm, attn_post_norm, mlp_post_norm;  // of hidden_size; see Architecture
  Norm q_norm, k_norm;                                      // of head_dim
  // In the order of LinearId; what the family has not, such as a gate, is empty.
  std::vector<Linear> linears = std::vector<Linear>(kNumLinears);

  Linear& linear(LinearId id) { return linears[static_cast<size_t>(id)]; }
  const Linear& linear(LinearId id) const { return linears[static_cast<size_t>(id)]; }
  // In which activations are multiplied with each other: as they are with the weights.
  DType precision() const { return linear(LinearId::kQ).dtype(); }
};

// Blocks in their order: while the backend works on one, the next is read, and uploaded where that
// is worth the memory of a second block.
class BlockReader {
 public:
  // Both outlive this object. ahead: whether there is memory for two blocks.
  BlockReader(const Checkpoint& checkpoint, Backend& backend, bool ahead)
      : checkpoint_(checkpoint), backend_(backend), ahead_(ahead) {}
  absl::StatusOr<Block> Take(int64_t layer);
  // A part of the next block, as long as there are any: to be called between the batches that block
  // layer − 1 is given, which then do not wait for a whole block.
  absl::Status ReadPart(int64_t layer);
  // What is left of it. To be called once the work on block layer − 1 has been asked for.
  absl::Status ReadAhead(int64_t layer);

 private:
  bool Reads(int64_t layer) const;

  const Checkpoint& checkpoint_;
  Backend& backend_;
  const bool ahead_;
  std::optional<Block> next_;
  size_t parts_ = 0;  // of it that have been read
};

// Ranks are any number, and matrix units want rows that begin on whole multiples of so many
// elements: what a rank is the width of is wider in memory.
constexpr int64_t AlignedCols(int64_t cols) { return (cols + 7) / 8 * 8; }

// Zeros of the backend's WeightType for what is stored, with such rows.
absl::StatusOr<Matrix> NewWeight(int64_t rows, int64_t cols, DType stored, Backend& backend);

// Linear::order from what is stored, in which row i of W is row order[i] of a on top of b a. Here
// those of b a begin at AlignedCols(rank).
absl::StatusOr<Matrix> PivotedOrder(std::span<const int32_t> order, int64_t rank, Backend& backend);

// The final norm and the output head.
struct Head {
  Norm norm;
  Matrix project;  // [embedding_size, hidden]; empty where these are equal
  Matrix w;        // [vocab, embedding_size]; both of the backend's WeightType
};

// MODEL_CORRUPT, naming the tensor, where a value is NaN or infinite. Uploads only, beside what the
// backend is doing.
absl::StatusOr<Block> LoadBlock(const Checkpoint& checkpoint, int64_t layer, Backend& backend);
absl::StatusOr<Head> LoadHead(const Checkpoint& checkpoint, Backend& backend);

// x[t] = what token ids[t] at positions[t] puts into the residual stream: x F32 [ids.size(),
// hidden]. INVALID_ARGUMENT for an id outside the vocabulary or a position beyond the learned ones,
// MODEL_CORRUPT for a row that is not finite.
absl::Status Embed(const Checkpoint& checkpoint, std::span<const int32_t> ids,
                   std::span<const int64_t> positions, Backend& backend, MatrixRef x);

}  // namespace svdllm
