#include "compress/anchored_layers.h"

#include "compress/cost.h"
#include "compress/dense_pass.h"
#include "compress/matrix.h"
#include "compress/statistics.h"

namespace svdllm {
namespace {

// The inputs of o and down are needed twice, before and after these are compressed. They are kept
// where all streams' together take no more than this, and computed again where they would.
constexpr int64_t kMostKeptBytes = int64_t{1} << 30;

bool EndsHalf(Site site) { return site == Site::kOIn || site == Site::kDownIn; }

}  // namespace

AnchoredCompressor::AnchoredCompressor(const CompressContext& context)
    : context_(context),
      backend_(context.backend),
      dense_forward_(context.checkpoint.config(), context.checkpoint.arch(), context.backend),
      forward_(context.checkpoint.config(), context.checkpoint.arch(), context.backend),
      batches_(MakeBatches(context.calibration)),
      reader_(context.checkpoint, context.backend, context.placement.overlap) {}

absl::Status AnchoredCompressor::Start(size_t writers) {
  context_.log.Enter("load");
  ASSIGN_OR_RETURN(dense_, ResidualStream::Embed(context_.checkpoint, context_.calibration,
                                                 context_.placement.host_streams, backend_));
  streams_.resize(writers);
  for (Stream& stream : streams_) {
    ASSIGN_OR_RETURN(stream.x, dense_.Copy());
  }
  return absl::OkStatus();
}

std::vector<size_t> AnchoredCompressor::Readers(Site site) const {
  std::vector<size_t> readers;
  const auto& linears = context_.checkpoint.arch().linears;
  for (size_t i = 0; i < linears.size(); ++i) {
    if (linears[i].input == site) readers.push_back(i);
  }
  return readers;
}

absl::Status AnchoredCompressor::GatherBatch(const Batch& batch, Site site) {
  ASSIGN_OR_RETURN(const MatrixRef rows, dense_.Rows(batch));
  ASSIGN_OR_RETURN(const MatrixRef dense,
                   dense_forward_.SiteInput(block_, site, batch.offsets, rows));
  const MatrixRef drift = drift_.ref().Rows(0, batch.rows);
  for (Stream& stream : streams_) {
    ASSIGN_OR_RETURN(const MatrixRef own_rows, stream.x.Rows(batch));
    ASSIGN_OR_RETURN(const MatrixRef own,
                     forward_.SiteInput(stream.block, site, batch.offsets, own_rows));
    RETURN_IF_ERROR(backend_.AccumulateGram(own, block_.precision(), stream.gram));
    RETURN_IF_ERROR(backend_.Copy(dense, drift));
    RETURN_IF_ERROR(backend_.Add(-1, own, drift));
    if (!stream.drift_is_output) {
      RETURN_IF_ERROR(backend_.AccumulateCross(drift, own, block_.precision(), stream.drift));
    } else {
      const Matrix& w = block_.linear(context_.checkpoint.arch().linears[Readers(site)[0]].id).w;
      const MatrixRef output = drift_output_.ref().Rows(0, batch.rows);
      RETURN_IF_ERROR(backend_.Gemm(false, true, 1, drift, w, 0, output));
      RETURN_IF_ERROR(backend_.AccumulateCross(output, own, block_.precision(), stream.drift));
    }
    if (!stream.kept.empty()) {
      RETURN_IF_ERROR(backend_.Copy(own, stream.kept.ref().Rows(batch.first_row, batch.rows)));
    }
  }
  if (!EndsHalf(site)) return absl::OkStatus();
  RETURN_IF_ERROR(dense_forward_.FinishHalf(block_, site, dense, rows));
  return dense_.Keep(batch, rows);
}

absl::Status AnchoredCompressor::Gather(int64_t layer, Site site) {
  const ModelConfig& config = context_.checkpoint.config();
  const Architecture& arch = context_.checkpoint.arch();
  context_.log.Enter("calibrate");
  LinearId reader;
  const bool output = BlockStatistics::UsesOutputGram(config, arch, site, &reader);
  const LinearShape shape = ShapeOf(config, reader);
  const int64_t kept_bytes = 4 * dense_.rows() * shape.cols * static_cast<int64_t>(streams_.size());
  ASSIGN_OR_RETURN(drift_, backend_.New(LargestBatch(batches_), shape.cols, DType::kF32));
  if (output) {
    ASSIGN_OR_RETURN(drift_output_, backend_.New(LargestBatch(batches_), shape.rows, DType::kF32));
  }
  for (Stream& stream : streams_) {
    stream.gram = stream.drift = Matrix();  // give the old ones back first
    stream.drift_is_output = output;
    ASSIGN_OR_RETURN(stream.gram, backend_.New(shape.cols, shape.cols, DType::kF64));
    ASSIGN_OR_RETURN(stream.drift,
                     backend_.New(output ? shape.rows : shape.cols, shape.cols, DType::kF64));
    if (EndsHalf(site) && kept_bytes <= kMostKeptBytes) {
      ASSIGN_OR_RETURN(stream.kept, backend_.New(dense_.rows(), shape.cols, DType::kF32));
    }
  }
  for (const Batch& batch : batches_) {
    RETURN_IF_ERROR(context_.log.Check());
    RETURN_IF_ERROR(GatherBatch(batch, site));
    RETURN_IF_ERROR(reader_.ReadPart(layer + 1));
  }
  drift_ = drift_output_ = Matrix();
  for (Stream& stream : streams_) {
    RETURN_IF_ERROR(backend_.MirrorLower(stream.gram));
    for (const Matrix* matrix : {&stream.gram, &stream.drift}) {
      ASSIGN_OR_RETURN(const bool finite, backend_.AllFinite(*matrix));
      if (!finite) {
        return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                         "calibrate: layer " + std::to_string(layer) + " " +
                             std::string(SiteName(site)) + ": non-finite Gram matrix");
      }
    }
    RETURN_IF_ERROR(AddRidge(context_.spec.anchor_ridge, stream.gram, backend_));
  }
  const Workload work = WorkloadOf(context_.calibration);
  return context_.log.Step(AnchoredFlops(config, arch, site, work) *
                           static_cast<double>(streams_.size()));
}

absl::Status AnchoredCompressor::Compress(int64_t layer, Site site, Stream& stream,
                                          ArtifactWriter& writer,
                                          std::vector<MatrixReport>& reports) {
  context_.log.Enter("factorise");
  Metric metric;
  metric.gram = stream.gram;
  const std::vector<size_t> readers = Readers(site);
  const size_t together = context_.placement.one_matrix ? 1 : readers.size();
  if (context_.placement.one_matrix) {
    dense_forward_.ReleaseBuffers();
    forward_.ReleaseBuffers();
  }
  for (size_t first = 0; first < readers.size(); first += together) {
    RETURN_IF_ERROR(CompressTogether(layer, std::span(readers).subspan(first, together), metric,
                                     stream, writer, reports));
  }
  return absl::OkStatus();
}

absl::Status AnchoredCompressor::CompressTogether(int64_t layer, std::span<const size_t> readers,
                                                  const Metric& metric, Stream& stream,
                                                  ArtifactWriter& writer,
                                                  std::vector<MatrixReport>& reports) {
  const auto& linears = context_.checkpoint.arch().linears;
  std::vector<Matrix> targets;
  std::vector<DecomposeItem> items;
  for (const size_t i : readers) {
    const size_t index = TargetIndex(context_, layer, i);
    if (writer.ranks()[index] == 0) continue;
    ASSIGN_OR_RETURN(
        Matrix target,
        AnchoredTarget({block_.linear(linears[i].id).w, stream.drift, stream.drift_is_output},
                       stream.gram, context_.spec.anchor_blend, backend_));
    items.push_back({target, metric});
    targets.push_back(std::move(target));
  }
  absl::StatusOr<std::vector<Decomposition>> decompositions = Decompose(items, backend_);
  if (!decompositions.ok()) return LayerError(decompositions.status(), layer);
  targets.clear();  // their decompositions have copies
  RETURN_IF_ERROR(
      context_.log.Step(DecomposeFlops(context_.checkpoint.config(), context_.checkpoint.arch()) *
                        static_cast<double>(items.size()) / static_cast<double>(linears.size())));
  size_t next = 0;
  for (const size_t i : readers) {
    const size_t index = TargetIndex(context_, layer, i);
    const int64_t rank = writer.ranks()[index];
    if (rank == 0) {
      reports.push_back(DenseReport(context_.targets[index]));
      continue;
    }
    const MatrixJob job{index, rank, (*decompositions)[next++], metric, {}, false};
    ASSIGN_OR_RETURN(MatrixReport report,
                     CompressMatrix(context_, job, writer, stream.block.linear(linears[i].id)));
    reports.push_back(std::move(report));
  }
  return absl::OkStatus();
}

absl::Status AnchoredCompressor::FinishHalf(Site site, Stream& stream) {
  context_.log.Enter("calibrate");
  for (const Batch& batch : batches_) {
    RETURN_IF_ERROR(context_.log.Check());
    ASSIGN_OR_RETURN(const MatrixRef rows, stream.x.Rows(batch));
    MatrixRef input = stream.kept.ref().Rows(batch.first_row, batch.rows);
    if (stream.kept.empty()) {
      ASSIGN_OR_RETURN(input, forward_.SiteInput(stream.block, site, batch.offsets, rows));
    }
    RETURN_IF_ERROR(forward_.FinishHalf(stream.block, site, input, rows));
    RETURN_IF_ERROR(stream.x.Keep(batch, rows));
  }
  stream.kept = Matrix();
  return absl::OkStatus();
}

absl::Status AnchoredCompressor::CompressLayer(int64_t layer, std::vector<ArtifactWriter>& writers,
                                               std::vector<std::vector<MatrixReport>>& reports) {
  context_.log.Enter("load");
  block_ = Block();  // first give the old one back
  ASSIGN_OR_RETURN(block_, reader_.Take(layer));
  for (Stream& stream : streams_) stream.block = block_;
  for (const Site site : {Site::kAttnIn, Site::kOIn, Site::kMlpIn, Site::kDownIn}) {
    RETURN_IF_ERROR(Gather(layer, site));
    if (site == Site::kAttnIn) RETURN_IF_ERROR(reader_.ReadAhead(layer + 1));
    for (size_t w = 0; w < writers.size(); ++w) {
      RETURN_IF_ERROR(Compress(layer, site, streams_[w], writers[w], reports[w]));
      if (EndsHalf(site)) RETURN_IF_ERROR(FinishHalf(site, streams_[w]));
    }
  }
  return LayerDone(context_, layer);
}

}  // namespace svdllm
