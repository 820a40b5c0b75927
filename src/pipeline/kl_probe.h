// What compressing one matrix alone does to the model's predictions: the mean KL divergence of its
// next-token distributions from the dense model's, over some of the calibration tokens.
//
// All matrices are probed in one pass over the blocks: a variant of the residual streams branches
// off at its matrix, and every open variant goes through the rest of the dense model as part of one
// batch. A block's weights are read once, and what lies before a matrix is computed once for all.
#pragma once

#include <span>
#include <vector>

#include "lowrank/decomposition.h"
#include "pipeline/compress_blocks.h"
#include "pipeline/streams.h"

namespace svdllm {

// Use: Start, AddLayer for layers 0, 1, …, Divergences. Not thread-safe.
class KlProbe {
 public:
  // ranks: for each keep ratio a rank a target; 0 is not probed.
  KlProbe(const CompressContext& context, std::vector<std::vector<int64_t>> ranks);

  absl::Status Start();
  // decompositions: of the layer's linears, in the table's order, with vectors.
  absl::Status AddLayer(int64_t layer, const Block& block,
                        std::span<const Decomposition> decompositions);
  // Nats a token, for each keep ratio a target; 0 where none was probed.
  absl::StatusOr<std::vector<std::vector<double>>> Divergences();

  // Tokens of a probe's sequence at most: many short texts tell more than a long one.
  static constexpr int64_t kLength = 256;
  // How many tokens are probed with, given how many there are: enough to rank matrices by, as few
  // as keeps the streams of all variants within bounds.
  static int64_t Tokens(int64_t available, int64_t hidden_size, int64_t variants);

 private:
  struct Variant {
    size_t ratio = 0, target = 0;
    Matrix x;  // F32 [tokens, hidden]
  };
  absl::Status Branch(const Block& block, size_t ratio, size_t target, LinearId id,
                      const Decomposition& decomposition, int64_t rank);

  const CompressContext& context_;
  Backend& backend_;
  const std::vector<std::vector<int64_t>> ranks_;
  Forward forward_;
  Sequences sequences_;
  Matrix dense_;
  std::vector<Variant> variants_;
};

}  // namespace svdllm
