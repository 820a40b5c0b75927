// What compressing one matrix alone does to the model's predictions: the mean KL divergence of its
// next-token distributions from the dense model's, over some of the calibration tokens.
//
// All matrices are probed in one pass over the blocks. At its matrix a variant of the residual
// streams branches off, and from there every variant goes through the rest of the dense model,
// several of them in one batch. So a block's weights are read once, and what lies before a matrix
// is computed once for all.
#pragma once

#include <span>
#include <vector>

#include "compress/context.h"
#include "lowrank/decomposition.h"
#include "model/residual_stream.h"

namespace svdllm {

// Call Start; then, for layers 0, 1, …, BeginLayer, AddMatrix for the layer's linears in their
// order, and EndLayer; at last Divergences. Not thread-safe.
class KlProbe {
 public:
  // ranks[1][17] is the rank at which the second keep ratio's eighteenth linear layer is probed. 0
  // means that it is not probed.
  KlProbe(const CompressRun& run, std::vector<std::vector<int64_t>> ranks);

  absl::Status Start();
  absl::Status BeginLayer(const Block& block);
  // Probes a linear layer of the block, given by its place in the list. Its decomposition has
  // vectors.
  absl::Status AddMatrix(const Block& block, size_t linear, const Decomposition& decomposition);
  absl::Status EndLayer(const Block& block);
  // What a later attempt needs behind a layer, as a file of a record of the series, and what
  // Restore takes in place of the layers up to it. Call Restore after Start.
  absl::Status Keep(Journal& journal, const std::string& series, int64_t number) const;
  absl::Status Restore(const JournalRecord& record);
  // The divergences in nats per token. divergences[1][17] is that of the second keep ratio's
  // eighteenth linear layer; it is 0 where none was probed.
  absl::StatusOr<std::vector<std::vector<double>>> Divergences();

  // The most tokens of a probe's sequence. Pieces of several texts tell more than one long piece.
  static constexpr int64_t kLength = 128;
  // Returns how many of the available tokens are probed with: enough to rank matrices by, and no
  // more than keeps the variants' streams of one keep ratio within bounds. The number of keep
  // ratios does not count, so that each keep ratio gets the ranks that it would get alone.
  static int64_t Tokens(int64_t available, int64_t hidden_size, int64_t linears);

 private:
  struct Variant {
    size_t ratio = 0, linear = 0;
  };
  // The residual streams of variants [first, first + count), one below the other.
  MatrixRef StreamsOf(size_t first, size_t count) const;
  // Takes all variants through a block, a batch at a time.
  absl::Status AdvanceVariants(const Block& block);
  absl::Status Branch(const Block& block, LinearId id, const Decomposition& decomposition,
                      const Variant& variant);

  const CompressRun& run_;
  Backend& backend_;
  const std::vector<std::vector<int64_t>> ranks_;
  Forward forward_;
  Sequences sequences_;
  Matrix dense_;  // F32 [tokens, hidden]
  // F32 [variants · tokens, hidden], in the order of variants_: with 512 tokens, row 1030 is the
  // token with index 6 of variants_[2].
  Matrix streams_;
  std::vector<Variant> variants_;  // those that have branched off so far
};

}  // namespace svdllm
