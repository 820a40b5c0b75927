#include "compress/layers.h"

#include <algorithm>
#include <optional>
#include <string>

#include "compress/anchored_layers.h"
#include "compress/cost.h"
#include "compress/dense_pass.h"
#include "compress/matrix.h"

namespace svdllm {
namespace {

// The methods that decompose the dense model's layers; the update looks at the compressed prefix
// beside it.
class BlockCompressor {
 public:
  explicit BlockCompressor(const CompressContext& context)
      : context_(context),
        update_(RowOf(context.spec.method).update),
        forward_(context.checkpoint.config(), context.checkpoint.arch(), context.backend),
        pass_(context) {}

  absl::Status Start(size_t writers);
  absl::Status CompressLayer(int64_t layer, std::vector<ArtifactWriter>& writers,
                             std::vector<std::vector<MatrixReport>>& reports);

 private:
  // A layer whose statistics are complete.
  struct Calibrated {
    Block block;
    BlockStatistics statistics;
    std::optional<PendingDecompositions> pending;  // of all its linears that are wanted
  };
  // A layer on its way into one artifact.
  struct Half {
    Block block;
    std::optional<BlockStatistics> own;  // behind the compressed prefix
  };

  // The linears of a group for which a writer wants a rank.
  std::vector<size_t> Wanted(int64_t layer, const std::vector<size_t>& group,
                             const std::vector<ArtifactWriter>& writers) const;
  absl::Status FinishLayer(Calibrated& layer, std::vector<ArtifactWriter>& writers,
                           std::vector<std::vector<MatrixReport>>& reports);
  absl::StatusOr<std::vector<Half>> StartHalves(const Calibrated& layer, size_t writers);
  absl::Status CompressLinear(const Calibrated& layer, size_t i, const Decomposition* decomposition,
                              Half& half, ArtifactWriter& writer,
                              std::vector<MatrixReport>& reports);
  absl::Status AdvanceCompressed(size_t stream, const Block& block, bool observe_only,
                                 BlockStatistics* statistics);

  const CompressContext& context_;
  const bool update_;
  Forward forward_;
  DensePass pass_;
  std::vector<ResidualStream> compressed_;  // of each compressed prefix
  std::optional<Calibrated> previous_;      // with overlap: its decompositions are under way
};

absl::Status BlockCompressor::Start(size_t writers) {
  RETURN_IF_ERROR(pass_.Start());
  for (size_t i = 0; i < writers && update_; ++i) {
    ASSIGN_OR_RETURN(ResidualStream copy, pass_.stream().Copy());
    compressed_.push_back(std::move(copy));
  }
  return absl::OkStatus();
}

absl::Status BlockCompressor::AdvanceCompressed(size_t stream, const Block& block,
                                                bool observe_only, BlockStatistics* statistics) {
  context_.log.Enter("calibrate");
  RETURN_IF_ERROR(AdvanceStream(
      forward_, block, pass_.batches(), compressed_[stream], /*keep=*/!observe_only,
      statistics != nullptr ? statistics->Observer(block.precision()) : BlockObserver{},
      [this] { return context_.log.Check(); }));
  const Workload work = WorkloadOf(context_.calibration);
  return context_.log.Step(BlockFlops(context_.checkpoint.config(), context_.checkpoint.arch(),
                                      work.tokens, work.positions));
}

std::vector<size_t> BlockCompressor::Wanted(int64_t layer, const std::vector<size_t>& group,
                                            const std::vector<ArtifactWriter>& writers) const {
  std::vector<size_t> wanted;
  for (const size_t i : group) {
    const size_t index = TargetIndex(context_, layer, i);
    if (std::any_of(writers.begin(), writers.end(),
                    [index](const ArtifactWriter& writer) { return writer.ranks()[index] > 0; })) {
      wanted.push_back(i);
    }
  }
  return wanted;
}

absl::StatusOr<std::vector<BlockCompressor::Half>> BlockCompressor::StartHalves(
    const Calibrated& layer, size_t writers) {
  std::vector<Half> halves;
  for (size_t w = 0; w < writers; ++w) {
    Half& half = halves.emplace_back(Half{layer.block, {}});  // shares what stays
    // In the first block both models see the same inputs.
    if (!update_ || layer.block.layer == 0) continue;
    ASSIGN_OR_RETURN(half.own, pass_.NewStatistics());
    RETURN_IF_ERROR(AdvanceCompressed(w, layer.block, /*observe_only=*/true, &*half.own));
    RETURN_IF_ERROR(
        half.own->Finish("layer " + std::to_string(layer.block.layer) + " behind the compressed",
                         context_.spec.asvd_alpha));
  }
  return halves;
}

absl::Status BlockCompressor::CompressLinear(const Calibrated& layer, size_t i,
                                             const Decomposition* decomposition, Half& half,
                                             ArtifactWriter& writer,
                                             std::vector<MatrixReport>& reports) {
  const size_t index = TargetIndex(context_, layer.block.layer, i);
  const int64_t rank = writer.ranks()[index];
  if (rank == 0) {
    reports.push_back(DenseReport(context_.targets[index]));
    return absl::OkStatus();
  }
  const LinearId id = context_.checkpoint.arch().linears[i].id;
  const BlockStatistics& judge = half.own ? *half.own : layer.statistics;
  const MatrixJob job{index, rank, *decomposition, judge.MetricOf(id), judge.SampleOf(id), update_};
  ASSIGN_OR_RETURN(MatrixReport report,
                   CompressMatrix(context_, job, writer, half.block.linear(id)));
  reports.push_back(std::move(report));
  return absl::OkStatus();
}

absl::Status BlockCompressor::FinishLayer(Calibrated& layer, std::vector<ArtifactWriter>& writers,
                                          std::vector<std::vector<MatrixReport>>& reports) {
  const int64_t number = layer.block.layer;
  ASSIGN_OR_RETURN(std::vector<Half> halves, StartHalves(layer, writers.size()));
  for (const std::vector<size_t>& group : DecompositionGroups(context_)) {
    const std::vector<size_t> wanted = Wanted(number, group, writers);
    if (!layer.pending) {
      ASSIGN_OR_RETURN(layer.pending, StartDecompositions(context_, layer.block, layer.statistics,
                                                          /*values_only=*/false, wanted));
    }
    context_.log.Enter("factorise");
    absl::StatusOr<std::vector<Decomposition>> decompositions = layer.pending->Finish();
    layer.pending.reset();
    if (!decompositions.ok()) return LayerError(decompositions.status(), number);
    size_t next = 0;
    for (const size_t i : group) {
      const bool decomposed = next < wanted.size() && wanted[next] == i;
      const Decomposition* d = decomposed ? &(*decompositions)[next++] : nullptr;
      for (size_t w = 0; w < writers.size(); ++w) {
        RETURN_IF_ERROR(CompressLinear(layer, i, d, halves[w], writers[w], reports[w]));
      }
    }
  }
  const bool last = number + 1 == context_.checkpoint.config().num_layers;
  for (size_t w = 0; w < writers.size() && update_ && !last; ++w) {
    RETURN_IF_ERROR(AdvanceCompressed(w, halves[w].block, /*observe_only=*/false, nullptr));
  }
  return LayerDone(context_, number);
}

absl::Status BlockCompressor::CompressLayer(int64_t layer, std::vector<ArtifactWriter>& writers,
                                            std::vector<std::vector<MatrixReport>>& reports) {
  RETURN_IF_ERROR(pass_.Calibrate(layer));
  Calibrated now{pass_.block(), pass_.TakeStatistics(), {}};
  if (!context_.placement.overlap) return FinishLayer(now, writers, reports);
  // While this layer's eigenproblems are solved, the one before is factorised and written, and then
  // the next one calibrated.
  const std::vector<size_t> wanted = Wanted(layer, DecompositionGroups(context_)[0], writers);
  ASSIGN_OR_RETURN(now.pending, StartDecompositions(context_, now.block, now.statistics,
                                                    /*values_only=*/false, wanted));
  if (previous_) RETURN_IF_ERROR(FinishLayer(*previous_, writers, reports));
  previous_ = std::move(now);
  if (layer + 1 < context_.checkpoint.config().num_layers) return absl::OkStatus();
  return FinishLayer(*previous_, writers, reports);
}

// Layer by layer, whichever way the method goes through one.
template <typename Compressor>
absl::StatusOr<std::vector<std::vector<MatrixReport>>> ForLayers(
    const CompressContext& context, std::vector<ArtifactWriter>& writers) {
  Compressor compressor(context);
  RETURN_IF_ERROR(compressor.Start(writers.size()));
  std::vector<std::vector<MatrixReport>> reports(writers.size());
  const int64_t layers = context.checkpoint.config().num_layers;
  for (int64_t layer = 0; layer < layers; ++layer) {
    RETURN_IF_ERROR(compressor.CompressLayer(layer, writers, reports));
  }
  return reports;
}

}  // namespace

absl::StatusOr<std::vector<std::vector<MatrixReport>>> CompressBlocks(
    const CompressContext& context, std::vector<ArtifactWriter>& writers) {
  return context.spec.method == Method::kAnchored ? ForLayers<AnchoredCompressor>(context, writers)
                                                  : ForLayers<BlockCompressor>(context, writers);
}

}  // namespace svdllm
