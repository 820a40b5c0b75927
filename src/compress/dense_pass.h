// The dense model over the calibration set, a block at a time: what every method's statistics, and
// every allocation's spectra, come from.
#pragma once

#include <vector>

#include "compress/context.h"
#include "compress/statistics.h"
#include "model/residual_stream.h"

namespace svdllm {

// Call Start, then Calibrate for layers 0, 1, …, or from the layer on that Start's stream is in
// front of. Not thread-safe.
class DensePass {
 public:
  explicit DensePass(const CompressRun& run)
      : run_(run),
        statistic_(RowOf(run.spec.method).statistic),
        forward_(run.checkpoint.config(), run.checkpoint.arch(), run.backend),
        batches_(MakeBatches(run.calibration)),
        reader_(run.checkpoint, run.backend, run.placement.overlap) {}

  // stream: the residual streams that an earlier attempt has kept; empty: the embeddings.
  absl::Status Start(ResidualStream stream = {});
  // Loads the block and gathers its statistics over the stream, which is advanced behind it.
  absl::Status Calibrate(int64_t layer);

  const std::vector<Batch>& batches() const { return batches_; }
  // The residual streams behind the last block that was calibrated. It is empty where the method
  // needs no activations.
  const ResidualStream& stream() const { return stream_; }
  const Block& block() const { return block_; }
  const BlockStatistics& statistics() const { return statistics_; }
  // Hands over the statistics of the last block and leaves none behind.
  BlockStatistics TakeStatistics() { return std::move(statistics_); }
  absl::StatusOr<BlockStatistics> NewStatistics() const;

 private:
  const CompressRun& run_;
  const Statistic statistic_;
  Forward forward_;
  const std::vector<Batch> batches_;
  BlockReader reader_;
  ResidualStream stream_;
  int64_t layer_ = -1;
  Block block_;
  BlockStatistics statistics_;
};

// Begins the decompositions of the given linear layers of a block. `linears` are their places in
// the list.
absl::StatusOr<PendingDecompositions> StartDecompositions(const CompressRun& run,
                                                          const Block& block,
                                                          const BlockStatistics& statistics,
                                                          bool values_only,
                                                          std::span<const size_t> linears);

}  // namespace svdllm
