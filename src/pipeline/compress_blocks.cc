#include "pipeline/compress_blocks.h"

#include <fmt/format.h>

#include <optional>

#include "pipeline/anchored_blocks.h"
#include "pipeline/compress_matrix.h"
#include "pipeline/dense_pass.h"
#include "pipeline/perplexity.h"

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
  absl::Status AdvanceCompressed(size_t stream, const Block& block, bool observe_only,
                                 BlockStatistics* statistics);

  const CompressContext& context_;
  const bool update_;
  Forward forward_;
  DensePass pass_;
  std::vector<Matrix> compressed_;  // the residual streams of each compressed prefix
  Matrix scratch_;                  // a batch of streams that is only looked at
};

absl::Status BlockCompressor::Start(size_t writers) {
  RETURN_IF_ERROR(pass_.Start());
  if (!update_) return absl::OkStatus();
  const Matrix& dense = pass_.stream();
  for (size_t i = 0; i < writers; ++i) {
    ASSIGN_OR_RETURN(Matrix copy, context_.backend.New(dense.rows(), dense.cols(), DType::kF32));
    RETURN_IF_ERROR(context_.backend.Copy(dense, copy));
    compressed_.push_back(std::move(copy));
  }
  ASSIGN_OR_RETURN(scratch_,
                   context_.backend.New(LargestBatch(pass_.batches()), dense.cols(), DType::kF32));
  return absl::OkStatus();
}

absl::Status BlockCompressor::AdvanceCompressed(size_t stream, const Block& block,
                                                bool observe_only, BlockStatistics* statistics) {
  context_.log.Enter("calibrate");
  const MatrixRef scratch = scratch_;
  RETURN_IF_ERROR(AdvanceStream(forward_, block, pass_.batches(), compressed_[stream],
                                observe_only ? &scratch : nullptr,
                                statistics != nullptr ? statistics->Observer() : BlockObserver{},
                                context_.backend, [this] { return context_.log.Check(); }));
  const Workload work = WorkloadOf(context_.calibration);
  return context_.log.Step(BlockFlops(context_.checkpoint.config(), context_.checkpoint.arch(),
                                      work.tokens, work.positions));
}

absl::Status BlockCompressor::CompressLayer(int64_t layer, std::vector<ArtifactWriter>& writers,
                                            std::vector<std::vector<MatrixReport>>& reports) {
  RETURN_IF_ERROR(pass_.Calibrate(layer));
  const auto& linears = context_.checkpoint.arch().linears;
  std::vector<bool> wanted(linears.size(), false);
  for (size_t i = 0; i < linears.size(); ++i) {
    for (const ArtifactWriter& writer : writers) {
      if (writer.ranks()[TargetIndex(context_, layer, i)] > 0) wanted[i] = true;
    }
  }
  ASSIGN_OR_RETURN(const std::vector<Decomposition> decompositions,
                   pass_.DecomposeLayer(false, wanted));
  const bool last = layer + 1 == context_.checkpoint.config().num_layers;
  for (size_t w = 0; w < writers.size(); ++w) {
    // In the first block both models see the same inputs.
    std::optional<BlockStatistics> own;
    if (update_ && layer > 0) {
      ASSIGN_OR_RETURN(own, pass_.NewStatistics());
      RETURN_IF_ERROR(AdvanceCompressed(w, pass_.block(), /*observe_only=*/true, &*own));
      RETURN_IF_ERROR(own->Finish("layer " + std::to_string(layer) + " behind the compressed",
                                  context_.spec.asvd_alpha));
    }
    const BlockStatistics& judge = own ? *own : pass_.statistics();
    context_.log.Enter("factorise");
    Block compressed = pass_.block();  // shares what stays
    size_t next = 0;
    for (size_t i = 0; i < linears.size(); ++i) {
      const LinearId id = linears[i].id;
      const size_t index = TargetIndex(context_, layer, i);
      const int64_t rank = writers[w].ranks()[index];
      const Decomposition* d = wanted[i] ? &decompositions[next++] : nullptr;
      if (rank == 0) {
        reports[w].push_back(DenseReport(context_.targets[index]));
        continue;
      }
      const MatrixJob job{index, rank, *d, judge.MetricOf(id), judge.SampleOf(id), update_};
      ASSIGN_OR_RETURN(MatrixReport report,
                       CompressMatrix(context_, job, writers[w], compressed.linear(id)));
      reports[w].push_back(std::move(report));
    }
    if (update_ && !last) RETURN_IF_ERROR(AdvanceCompressed(w, compressed, false, nullptr));
  }
  return absl::OkStatus();
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
    context.log.LayerDone();
    RETURN_IF_ERROR(context.log.Step(
        0, "", "layer " + std::to_string(layer + 1) + "/" + std::to_string(layers) + " done"));
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
