// The way through the layers of those methods that decompose the dense model's layers. Methods that
// refit look at the compressed prefix as well.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "compress/context.h"
#include "compress/dense_pass.h"
#include "compress/statistics.h"
#include "model/forward.h"
#include "model/residual_stream.h"

namespace svdllm {

// Call Start, then CompressLayer for layers 0, 1, … Not thread-safe.
class DenseLayers {
 public:
  explicit DenseLayers(const CompressRun& run);

  absl::Status Start(size_t sinks);
  absl::Status CompressLayer(int64_t layer, std::span<const FactorSink> sinks,
                             MatrixReports& reports);

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

  absl::Status FinishLayer(Calibrated& layer, std::span<const FactorSink> sinks,
                           MatrixReports& reports);
  absl::StatusOr<std::vector<Half>> StartHalves(const Calibrated& layer, size_t sinks);
  absl::Status CompressLinear(const Calibrated& layer, size_t linear,
                              const Decomposition* decomposition, const FactorSink& sink,
                              Half& half, std::vector<MatrixReport>& reports);
  absl::Status AdvanceCompressed(size_t stream, const Block& block, bool observe_only,
                                 BlockStatistics* statistics);

  const CompressRun& run_;
  const bool refits_;
  Forward forward_;
  DensePass pass_;
  std::vector<ResidualStream> compressed_;  // one per keep ratio, where the method refits
  std::optional<Calibrated> previous_;      // with overlap: its decompositions are still running
};

}  // namespace svdllm
