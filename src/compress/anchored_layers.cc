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

AnchoredLayers::AnchoredLayers(const CompressRun& run, LayerJournal& journal)
    : run_(run),
      journal_(journal),
      backend_(run.backend),
      dense_forward_(run.checkpoint.config(), run.checkpoint.arch(), run.backend),
      forward_(run.checkpoint.config(), run.checkpoint.arch(), run.backend),
      batches_(MakeBatches(run.calibration)),
      reader_(run.checkpoint, run.backend, run.placement.overlap) {}

absl::Status AnchoredLayers::Start() {
  run_.progress.Enter("load");
  streams_.resize(journal_.sinks().size());
  ASSIGN_OR_RETURN(dense_, journal_.DenseStream());
  if (!dense_.empty()) {
    for (size_t s = 0; s < streams_.size(); ++s) {
      ASSIGN_OR_RETURN(streams_[s].x, journal_.CompressedStream(s));
    }
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(dense_, ResidualStream::Embed(run_.checkpoint, run_.calibration,
                                                 run_.placement.host_streams, backend_));
  for (Stream& stream : streams_) {
    ASSIGN_OR_RETURN(stream.x, dense_.Copy());
  }
  return absl::OkStatus();
}

std::vector<size_t> AnchoredLayers::Readers(int64_t layer, Site site) const {
  std::vector<size_t> readers = LinearsOf(run_.linears, layer);
  std::erase_if(readers, [&](size_t i) { return run_.linears[i].site != site; });
  return readers;
}

absl::Status AnchoredLayers::GatherBatch(const Batch& batch, Site site, LinearId reader) {
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
      const Matrix& w = block_.linear(reader).w;
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

absl::Status AnchoredLayers::Gather(int64_t layer, Site site) {
  const ModelConfig& config = run_.checkpoint.config();
  const Architecture& arch = run_.checkpoint.arch();
  run_.progress.Enter("calibrate");
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
    RETURN_IF_ERROR(run_.progress.Check());
    RETURN_IF_ERROR(GatherBatch(batch, site, reader));
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
    RETURN_IF_ERROR(AddRidge(run_.spec.anchor_ridge, stream.gram, backend_));
  }
  const Workload work = WorkloadOf(run_.calibration);
  return run_.progress.Step(AnchoredFlops(config, arch, site, work) *
                            static_cast<double>(streams_.size()));
}

absl::Status AnchoredLayers::Compress(int64_t layer, Site site, Stream& stream,
                                      const FactorSink& sink, std::vector<MatrixReport>& reports) {
  run_.progress.Enter("factorise");
  Metric metric;
  metric.gram = stream.gram;
  const std::vector<size_t> readers = Readers(layer, site);
  const size_t together = run_.placement.one_matrix ? 1 : readers.size();
  if (run_.placement.one_matrix) {
    dense_forward_.ReleaseBuffers();
    forward_.ReleaseBuffers();
  }
  for (size_t first = 0; first < readers.size(); first += together) {
    RETURN_IF_ERROR(CompressTogether(layer, std::span(readers).subspan(first, together), metric,
                                     stream, sink, reports));
  }
  return absl::OkStatus();
}

absl::Status AnchoredLayers::CompressTogether(int64_t layer, std::span<const size_t> readers,
                                              const Metric& metric, Stream& stream,
                                              const FactorSink& sink,
                                              std::vector<MatrixReport>& reports) {
  std::vector<Matrix> targets;
  std::vector<DecomposeItem> items;
  for (const size_t i : readers) {
    if (sink.ranks[i] == 0) continue;
    ASSIGN_OR_RETURN(Matrix target, AnchoredTarget({block_.linear(run_.linears[i].id).w,
                                                    stream.drift, stream.drift_is_output},
                                                   stream.gram, run_.spec.anchor_blend, backend_));
    items.push_back({target, metric});
    targets.push_back(std::move(target));
  }
  absl::StatusOr<std::vector<Decomposition>> decompositions = Decompose(items, backend_);
  if (!decompositions.ok()) return LayerError(decompositions.status(), layer);
  targets.clear();  // their decompositions have copies
  RETURN_IF_ERROR(
      run_.progress.Step(DecomposeFlops(run_.checkpoint.config(), run_.checkpoint.arch()) *
                         static_cast<double>(items.size()) /
                         static_cast<double>(run_.checkpoint.arch().linears.size())));
  size_t next = 0;
  for (const size_t i : readers) {
    const LinearLayer& linear = run_.linears[i];
    const int64_t rank = sink.ranks[i];
    if (rank == 0) {
      reports.push_back(DenseReport(linear));
      RETURN_IF_ERROR(SkipWork(run_, 1 + kFactorShare));
      continue;
    }
    const MatrixJob job{i, rank, (*decompositions)[next++], metric, {}};
    ASSIGN_OR_RETURN(MatrixReport report,
                     CompressMatrix(run_, job, sink, stream.block.linear(linear.id)));
    reports.push_back(std::move(report));
  }
  return absl::OkStatus();
}

absl::Status AnchoredLayers::FinishHalf(Site site, Stream& stream) {
  run_.progress.Enter("calibrate");
  for (const Batch& batch : batches_) {
    RETURN_IF_ERROR(run_.progress.Check());
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

absl::Status AnchoredLayers::CompressLayer(int64_t layer) {
  run_.progress.Enter("load");
  block_ = Block();  // first give the old one back
  ASSIGN_OR_RETURN(block_, reader_.Take(layer));
  for (Stream& stream : streams_) stream.block = block_;
  for (const Site site : {Site::kAttnIn, Site::kOIn, Site::kMlpIn, Site::kDownIn}) {
    RETURN_IF_ERROR(Gather(layer, site));
    if (site == Site::kAttnIn) RETURN_IF_ERROR(reader_.ReadAhead(layer + 1));
    for (size_t s = 0; s < streams_.size(); ++s) {
      RETURN_IF_ERROR(
          Compress(layer, site, streams_[s], journal_.sinks()[s], journal_.reports()[s]));
      if (EndsHalf(site)) RETURN_IF_ERROR(FinishHalf(site, streams_[s]));
    }
  }
  RETURN_IF_ERROR(journal_.KeepDense(layer, dense_));
  for (size_t s = 0; s < streams_.size(); ++s) {
    RETURN_IF_ERROR(journal_.KeepCompressed(layer, s, streams_[s].x));
  }
  return journal_.LayerDone(layer);
}

}  // namespace svdllm
