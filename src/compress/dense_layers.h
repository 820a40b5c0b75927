// The way through the layers of those methods that decompose the dense model's layers. Methods that
// refit look at the compressed prefix as well.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "compress/context.h"
#include "compress/dense_pass.h"
#include "compress/layer_journal.h"
#include "compress/statistics.h"
#include "model/forward.h"
#include "model/residual_stream.h"

namespace svdllm {

// Call Start, then CompressLayer for layers 0, 1, … Not thread-safe.
class DenseLayers {
 public:
  // Both outlive it.
  DenseLayers(const CompressRun& run, LayerJournal& journal);

  // Begins at the first layer, or behind those that the journal has restored.
  absl::Status Start();
  absl::Status CompressLayer(int64_t layer);

 private:
  // A layer whose statistics are complete.
  struct Calibrated {
    Block block;
    BlockStatistics statistics;
    std::optional<PendingDecompositions> pending;  // of all its linears that are wanted
  };
  // A layer on its way into one artifact, that is, for one keep ratio.
  struct Half {
    Block block;
    std::optional<BlockStatistics> own;  // behind the compressed prefix
  };

  absl::Status FinishLayer(Calibrated& layer);
  absl::StatusOr<std::vector<Half>> StartHalves(const Calibrated& layer);
  // Compresses a linear layer for the sink with this number.
  absl::Status CompressLinear(const Calibrated& layer, size_t linear,
                              const Decomposition* decomposition, size_t sink, Half& half);
  absl::Status AdvanceCompressed(size_t stream, const Block& block, bool observe_only,
                                 BlockStatistics* statistics);

  const CompressRun& run_;
  LayerJournal& journal_;
  const bool refits_;
  Forward forward_;
  DensePass pass_;
  std::vector<ResidualStream> compressed_;  // one per keep ratio, where the method refits
  std::optional<Calibrated> previous_;      // with overlap: its decompositions are still running
};

}  // namespace svdllm
