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

// y = W x + bias with W [out, in]. W is held whole, or as W = b a, or pivoted: its rows are then
// those of a and of b a, in an order.
//
// Weights have the backend's WeightType for what is stored.
struct Linear {
  Matrix w;      // [out, in]; empty where factored
  Matrix a, b;   // [rank, in], [out, rank] (pivoted: [out − rank, rank]); empty where whole
  Matrix order;  // I32 [1, out], PivotedOrder; pivoted only
  Matrix bias;   // F32 [1, out]; empty where there is none

  bool factored() const { return !a.empty(); }
  bool pivoted() const { return !order.empty(); }
  DType dtype() const { return factored() ? a.dtype() : w.dtype(); }
};

// A norm of the architecture's NormKind.
struct Norm {
  Matrix weight;  // F32 [1, n], what x is multiplied with; empty: there is no such norm
  Matrix bias;    // F32 [1, n]; kLayer only
  bool empty() const { return weight.empty(); }
};

struct Block {
  int64_t layer = 0;  // its number in the model
  Norm attn_norm, mlp_norm, attn_post_norm,
      mlp_post_norm;    // F32 [1, hidden_size]; see Architecture
  Norm q_norm, k_norm;  // F32 [1, head_dim]
  // In the order of LinearId. What the family does not have, such as a gate, is empty.
  std::vector<Linear> linears = std::vector<Linear>(kNumLinears);

  Linear& linear(LinearId id) { return linears[static_cast<size_t>(id)]; }
  const Linear& linear(LinearId id) const { return linears[static_cast<size_t>(id)]; }
  // The type in which activations are multiplied with each other: the same as with the weights.
  DType precision() const { return linear(LinearId::kQ).dtype(); }
};

// Reads blocks in their order. While the backend works on one block the next is read, and uploaded
// too where that is worth the memory of a second block.
class BlockReader {
 public:
  // Both outlive this object. `ahead` says whether there is memory for two blocks.
  BlockReader(const Checkpoint& checkpoint, Backend& backend, bool ahead)
      : checkpoint_(checkpoint), backend_(backend), ahead_(ahead) {}
  absl::StatusOr<Block> Take(int64_t layer);
  // Reads a part of the next block, as long as there are any parts. Call it between the batches
  // that block layer − 1 is given, so that none of them waits for a whole block.
  absl::Status ReadPart(int64_t layer);
  // Reads what is left of the next block. Call it once all work on block layer − 1 has been asked
  // for.
  absl::Status ReadAhead(int64_t layer);

 private:
  bool Reads(int64_t layer) const;

  const Checkpoint& checkpoint_;
  Backend& backend_;
  const bool ahead_;
  std::optional<Block> next_;
  size_t parts_ = 0;  // parts of next_ that have been read
};

// The columns that a matrix takes in memory. Ranks are any number, but matrix units want rows that
// begin on whole multiples of eight elements. So a matrix whose width is a rank is wider in memory.
constexpr int64_t AlignedCols(int64_t cols) { return (cols + 7) / 8 * 8; }

// Returns zeros of the backend's WeightType for what is stored, with rows of AlignedCols(cols)
// elements.
absl::StatusOr<Matrix> NewWeight(int64_t rows, int64_t cols, DType stored, Backend& backend);

// Makes Linear::order from what is stored. There, row i of W is row order[i] of a on top of b a.
// Here, the rows of b a begin at AlignedCols(rank).
absl::StatusOr<Matrix> PivotedOrder(std::span<const int32_t> order, int64_t rank, Backend& backend);

// The final norm and the output head.
struct Head {
  Norm norm;
  Matrix project;  // [embedding_size, hidden]; empty where these are equal
  Matrix w;        // [vocab, embedding_size]; both of the backend's WeightType
};

// Loads one block, or the head. It only uploads, beside what the backend is doing. MODEL_CORRUPT,
// naming the tensor, where a value is NaN or infinite.
absl::StatusOr<Block> LoadBlock(const Checkpoint& checkpoint, int64_t layer, Backend& backend);
absl::StatusOr<Head> LoadHead(const Checkpoint& checkpoint, Backend& backend);

// Sets x[t] to what token ids[t] at positions[t] puts into the residual stream. x is F32
// [ids.size(), hidden]. INVALID_ARGUMENT for an id outside the vocabulary or a position beyond the
// learned ones, MODEL_CORRUPT for a row that is not finite.
absl::Status Embed(const Checkpoint& checkpoint, std::span<const int32_t> ids,
                   std::span<const int64_t> positions, Backend& backend, MatrixRef x);

}  // namespace svdllm
