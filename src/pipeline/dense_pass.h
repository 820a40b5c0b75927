// The dense model over the calibration set, a block at a time: what every method's statistics, and
// every allocation's spectra, come from.
#pragma once

#include <vector>

#include "pipeline/block_statistics.h"
#include "pipeline/compress_blocks.h"
#include "pipeline/streams.h"

namespace svdllm {

// Use: Start, then Calibrate for layers 0, 1, … Not thread-safe.
class DensePass {
 public:
  explicit DensePass(const CompressContext& context)
      : context_(context),
        statistic_(RowOf(context.spec.method).statistic),
        forward_(context.checkpoint.config(), context.checkpoint.arch(), context.backend),
        batches_(MakeBatches(context.calibration)) {}

  absl::Status Start();
  // Loads the block and gathers its statistics over the stream, which is advanced.
  absl::Status Calibrate(int64_t layer);
  // Of the linears that are wanted, in the table's order.
  absl::StatusOr<std::vector<Decomposition>> DecomposeLayer(bool values_only,
                                                            const std::vector<bool>& wanted);

  const std::vector<Batch>& batches() const { return batches_; }
  // The residual streams behind the last block that was calibrated; empty where the method needs no
  // activations.
  const Matrix& stream() const { return stream_; }
  const Block& block() const { return block_; }
  const BlockStatistics& statistics() const { return statistics_; }
  absl::StatusOr<BlockStatistics> NewStatistics() const;

 private:
  const CompressContext& context_;
  const Statistic statistic_;
  Forward forward_;
  const std::vector<Batch> batches_;
  Matrix stream_;
  int64_t layer_ = -1;
  Block block_;
  BlockStatistics statistics_;
};

// The position of a linear, the i-th of its layer, among the targets.
inline size_t TargetIndex(const CompressContext& context, int64_t layer, size_t i) {
  return static_cast<size_t>(layer) * context.checkpoint.arch().linears.size() + i;
}

}  // namespace svdllm
