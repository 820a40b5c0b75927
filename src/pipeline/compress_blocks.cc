#include "pipeline/compress_blocks.h"

#include <fmt/format.h>

#include <cmath>
#include <optional>

#include "pipeline/block_statistics.h"
#include "pipeline/perplexity.h"
#include "pipeline/streams.h"

namespace svdllm {
namespace {

// Below this share of a matrix's whole energy a loss is rounding, and a ratio to it says nothing.
constexpr double kNoLoss = 1e-12;

class BlockCompressor {
 public:
  explicit BlockCompressor(const CompressContext& context)
      : context_(context),
        spec_(context.spec),
        method_(RowOf(spec_.method)),
        config_(context.checkpoint.config()),
        backend_(context.backend),
        log_(context.log),
        forward_(config_, context.checkpoint.arch(), backend_),
        batches_(MakeBatches(context.calibration)) {}

  absl::Status Start(size_t compressed_streams);
  // The dense block's statistics over the dense stream, which is advanced.
  absl::Status Calibrate(int64_t layer);
  absl::StatusOr<std::vector<Decomposition>> DecomposeLayer(int64_t layer, bool values_only,
                                                            const std::vector<bool>& wanted);
  absl::Status CompressLayer(int64_t layer, std::vector<ArtifactWriter>& writers,
                             std::vector<std::vector<MatrixReport>>& reports);

 private:
  struct Stored {
    std::vector<std::byte> a, b, whole;  // in the checkpoint's dtype
    DType dtype = DType::kF32;
  };

  size_t TargetIndex(int64_t layer, size_t i) const {
    return static_cast<size_t>(layer) * context_.checkpoint.arch().linears.size() + i;
  }
  bool UsesActivations() const { return method_.statistic != Statistic::kNone; }
  double ForwardWork() const;
  absl::Status AdvanceCompressed(size_t stream, const Block& block, bool observe_only,
                                 BlockStatistics* statistics);
  absl::StatusOr<MatrixReport> CompressMatrix(const Target& target, const Decomposition& d,
                                              int64_t rank, const BlockStatistics& dense,
                                              const BlockStatistics* updated, Linear& linear,
                                              Stored& stored);
  absl::StatusOr<Matrix> Round(MatrixRef x, DType dtype, std::vector<std::byte>& bytes);

  const CompressContext& context_;
  const CompressSpec& spec_;
  const MethodRow& method_;
  const ModelConfig& config_;
  Backend& backend_;
  RunLog& log_;
  Forward forward_;
  const std::vector<Batch> batches_;
  Matrix dense_;                    // the dense model's residual streams
  std::vector<Matrix> compressed_;  // those of each compressed prefix
  Matrix scratch_;                  // a batch of streams that is only looked at
  Block block_;
  BlockStatistics statistics_;
};

double BlockCompressor::ForwardWork() const {
  const Workload work = WorkloadOf(context_.calibration);
  return BlockFlops(config_, context_.checkpoint.arch(), work.tokens, work.positions);
}

absl::Status BlockCompressor::Start(size_t compressed_streams) {
  if (!UsesActivations()) return absl::OkStatus();
  log_.Enter("load");
  ASSIGN_OR_RETURN(dense_, EmbedSequences(context_.checkpoint, context_.calibration, backend_));
  for (size_t i = 0; i < compressed_streams; ++i) {
    ASSIGN_OR_RETURN(Matrix copy, backend_.New(dense_.rows(), dense_.cols(), DType::kF32));
    RETURN_IF_ERROR(backend_.Copy(dense_, copy));
    compressed_.push_back(std::move(copy));
  }
  int64_t rows = 0;
  for (const Batch& batch : batches_) rows = std::max(rows, batch.rows);
  if (compressed_streams > 0) {
    ASSIGN_OR_RETURN(scratch_, backend_.New(rows, dense_.cols(), DType::kF32));
  }
  return absl::OkStatus();
}

absl::Status BlockCompressor::Calibrate(int64_t layer) {
  log_.Enter("load");
  ASSIGN_OR_RETURN(block_, LoadBlock(context_.checkpoint, layer, backend_));
  ASSIGN_OR_RETURN(statistics_, BlockStatistics::Create(config_, context_.checkpoint.arch(),
                                                        method_.statistic, backend_));
  if (!UsesActivations()) return log_.Check();
  log_.Enter("calibrate");
  RETURN_IF_ERROR(AdvanceStream(forward_, block_, batches_, dense_, nullptr, statistics_.Observer(),
                                backend_, [this] { return log_.Check(); }));
  RETURN_IF_ERROR(statistics_.Finish("layer " + std::to_string(layer), spec_.asvd_alpha));
  return log_.Step(ForwardWork() + StatisticsFlops(config_, context_.checkpoint.arch(),
                                                   method_.statistic,
                                                   static_cast<double>(dense_.rows())));
}

absl::StatusOr<std::vector<Decomposition>> BlockCompressor::DecomposeLayer(
    int64_t layer, bool values_only, const std::vector<bool>& wanted) {
  log_.Enter("factorise");
  std::vector<DecomposeItem> items;
  const auto& linears = context_.checkpoint.arch().linears;
  for (size_t i = 0; i < linears.size(); ++i) {
    if (wanted[i]) {
      items.push_back({block_.linear(linears[i].id).w, statistics_.MetricOf(linears[i].id)});
    }
  }
  absl::StatusOr<std::vector<Decomposition>> decompositions =
      values_only ? DecomposeValues(items, backend_) : Decompose(items, backend_);
  if (!decompositions.ok()) {
    return Annotate(decompositions.status(), "factorise: layer " + std::to_string(layer));
  }
  RETURN_IF_ERROR(log_.Step(DecomposeFlops(config_, context_.checkpoint.arch()) *
                            (values_only ? kValuesShare : 1)));
  return decompositions;
}

// x to the bytes that are stored, and back to F64 as what they then say.
absl::StatusOr<Matrix> BlockCompressor::Round(MatrixRef x, DType dtype,
                                              std::vector<std::byte>& bytes) {
  bytes.resize(static_cast<size_t>(x.size()) * SizeOf(dtype));
  RETURN_IF_ERROR(backend_.Download(x, bytes.data(), dtype));
  ASSIGN_OR_RETURN(Matrix rounded, backend_.New(x.rows, x.cols, DType::kF64));
  RETURN_IF_ERROR(backend_.Upload(bytes.data(), dtype, rounded));
  return rounded;
}

absl::StatusOr<MatrixReport> BlockCompressor::CompressMatrix(const Target& target,
                                                             const Decomposition& d, int64_t rank,
                                                             const BlockStatistics& dense,
                                                             const BlockStatistics* updated,
                                                             Linear& linear, Stored& stored) {
  MatrixReport report{target.name, target.rows, target.cols, rank};
  const double total = d.Tail(0), tail = d.Tail(rank);
  if (method_.statistic == Statistic::kGram) report.optimum_loss = std::sqrt(tail);

  const BlockStatistics& judge = updated != nullptr ? *updated : dense;
  const Metric metric = judge.MetricOf(target.id);
  Factors factors;
  if (updated != nullptr) {
    ASSIGN_OR_RETURN(UpdatedFactors result, TruncateAndUpdate(d, rank, metric, backend_));
    report.relative_loss = result.relative_loss;
    factors = std::move(result.factors);
  } else {
    ASSIGN_OR_RETURN(factors, Truncate(d, rank, backend_));
    report.relative_loss = total > 0 ? std::sqrt(tail / total) : 0;
  }
  ASSIGN_OR_RETURN(const Matrix exact, backend_.New(target.rows, target.cols, DType::kF64));
  RETURN_IF_ERROR(backend_.Gemm(false, false, 1, factors.b, factors.a, 0, exact));

  Matrix as_stored;
  if (spec_.output_format == OutputFormat::kFactored) {
    ASSIGN_OR_RETURN(const Matrix a, Round(factors.a, stored.dtype, stored.a));
    ASSIGN_OR_RETURN(const Matrix b, Round(factors.b, stored.dtype, stored.b));
    ASSIGN_OR_RETURN(as_stored, backend_.New(target.rows, target.cols, DType::kF64));
    RETURN_IF_ERROR(backend_.Gemm(false, false, 1, b, a, 0, as_stored));
    linear.w = Matrix();
    ASSIGN_OR_RETURN(linear.a, backend_.New(rank, target.cols, DType::kF32));
    ASSIGN_OR_RETURN(linear.b, backend_.New(target.rows, rank, DType::kF32));
    RETURN_IF_ERROR(backend_.Copy(a, linear.a));
    RETURN_IF_ERROR(backend_.Copy(b, linear.b));
  } else {
    ASSIGN_OR_RETURN(as_stored, Round(exact, stored.dtype, stored.whole));
    ASSIGN_OR_RETURN(linear.w, backend_.New(target.rows, target.cols, DType::kF32));
    RETURN_IF_ERROR(backend_.Copy(as_stored, linear.w));
  }

  const MatrixRef sample = judge.SampleOf(target.id);
  const auto loss = [&](MatrixRef approximation) {
    return metric.output_gram.data != nullptr ? SampledLoss(d, approximation, sample, backend_)
                                              : ResidualLoss(d, approximation, metric, backend_);
  };
  ASSIGN_OR_RETURN(const double exact_loss, loss(exact));
  ASSIGN_OR_RETURN(const double stored_loss, loss(as_stored));
  if (!std::isfinite(stored_loss)) {
    return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                     "factorise: " + target.name + ": the factors overflow " +
                         std::string(DTypeName(stored.dtype)));
  }
  const bool is_optimum = updated == nullptr && metric.output_gram.data == nullptr;
  if (is_optimum && std::fabs(std::max(exact_loss, 0.0) - tail) > 1e-6 * tail + 1e-10 * total) {
    return MakeError(
        absl::StatusCode::kInternal, kNumericalFailure,
        fmt::format("factorise: {}: loss {} of the factors against {} from the eigenvalues",
                    target.name, exact_loss, tail));
  }
  if (exact_loss > kNoLoss * total) report.rounding_excess = stored_loss / exact_loss - 1;
  return report;
}

absl::Status BlockCompressor::AdvanceCompressed(size_t stream, const Block& block,
                                                bool observe_only, BlockStatistics* statistics) {
  log_.Enter("calibrate");
  const MatrixRef scratch = scratch_;
  RETURN_IF_ERROR(AdvanceStream(forward_, block, batches_, compressed_[stream],
                                observe_only ? &scratch : nullptr,
                                statistics != nullptr ? statistics->Observer() : BlockObserver{},
                                backend_, [this] { return log_.Check(); }));
  return log_.Step(ForwardWork());
}

absl::Status BlockCompressor::CompressLayer(int64_t layer, std::vector<ArtifactWriter>& writers,
                                            std::vector<std::vector<MatrixReport>>& reports) {
  const auto& linears = context_.checkpoint.arch().linears;
  std::vector<bool> wanted(linears.size(), false);
  for (size_t i = 0; i < linears.size(); ++i) {
    for (const ArtifactWriter& writer : writers) {
      if (writer.ranks()[TargetIndex(layer, i)] > 0) wanted[i] = true;
    }
  }
  ASSIGN_OR_RETURN(const std::vector<Decomposition> decompositions,
                   DecomposeLayer(layer, false, wanted));
  const bool last = layer + 1 == config_.num_layers;
  for (size_t w = 0; w < writers.size(); ++w) {
    // In the first block both models see the same inputs.
    std::optional<BlockStatistics> own;
    const BlockStatistics* updated = method_.update ? &statistics_ : nullptr;
    if (method_.update && layer > 0) {
      ASSIGN_OR_RETURN(own, BlockStatistics::Create(config_, context_.checkpoint.arch(),
                                                    method_.statistic, backend_));
      RETURN_IF_ERROR(AdvanceCompressed(w, block_, /*observe_only=*/true, &*own));
      RETURN_IF_ERROR(own->Finish("layer " + std::to_string(layer) + " behind the compressed",
                                  spec_.asvd_alpha));
      updated = &*own;
    }
    log_.Enter("factorise");
    Block compressed = block_;  // shares what stays
    size_t next = 0;
    for (size_t i = 0; i < linears.size(); ++i) {
      const size_t index = TargetIndex(layer, i);
      const Target& target = context_.targets[index];
      const int64_t rank = writers[w].ranks()[index];
      const Decomposition* d = wanted[i] ? &decompositions[next++] : nullptr;
      if (rank == 0) {
        reports[w].push_back({target.name, target.rows, target.cols, 0});
        continue;
      }
      ASSIGN_OR_RETURN(const TensorView source,
                       context_.checkpoint.Tensor(target.name + ".weight"));
      Stored stored;
      stored.dtype = source.dtype;
      ASSIGN_OR_RETURN(MatrixReport report, CompressMatrix(target, *d, rank, statistics_, updated,
                                                           compressed.linear(target.id), stored));
      if (spec_.output_format == OutputFormat::kFactored) {
        RETURN_IF_ERROR(writers[w].WriteFactors(index, stored.a, stored.b));
      } else {
        RETURN_IF_ERROR(writers[w].WriteDense(index, stored.whole));
      }
      RETURN_IF_ERROR(
          log_.Step(DecomposeFlops(config_, context_.checkpoint.arch()) * kFactorShare /
                        static_cast<double>(linears.size()),
                    target.name,
                    fmt::format("{}: rank {} of {}, relative loss {:.4g}", target.name, rank,
                                std::min(target.rows, target.cols), report.relative_loss)));
      reports[w].push_back(std::move(report));
    }
    if (method_.update && !last) RETURN_IF_ERROR(AdvanceCompressed(w, compressed, false, nullptr));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<std::vector<int64_t>>> AllocateRanks(const CompressContext& context) {
  const CompressSpec& spec = context.spec;
  std::vector<std::vector<int64_t>> ranks;
  if (spec.allocation == Allocation::kUniform) {
    for (const double keep_ratio : spec.keep_ratios) {
      ranks.emplace_back();
      for (const Target& target : context.targets) {
        ranks.back().push_back(RankFor(target.rows, target.cols, keep_ratio));
      }
    }
    return ranks;
  }
  BlockCompressor compressor(context);
  RETURN_IF_ERROR(compressor.Start(0));
  std::vector<AllocationItem> items;
  const std::vector<bool> all(context.checkpoint.arch().linears.size(), true);
  for (int64_t layer = 0; layer < context.checkpoint.config().num_layers; ++layer) {
    RETURN_IF_ERROR(compressor.Calibrate(layer));
    ASSIGN_OR_RETURN(const std::vector<Decomposition> decompositions,
                     compressor.DecomposeLayer(layer, true, all));
    for (const Decomposition& d : decompositions) {
      const Target& target = context.targets[items.size()];
      items.push_back({target.rows, target.cols, target.group, d.spectrum});
    }
  }
  context.log.Enter("allocate");
  for (const double keep_ratio : spec.keep_ratios) ranks.push_back(AllocateV2(items, keep_ratio));
  RETURN_IF_ERROR(context.log.Step(0, "", "ranks allocated"));
  return ranks;
}

absl::StatusOr<std::vector<std::vector<MatrixReport>>> CompressBlocks(
    const CompressContext& context, std::vector<ArtifactWriter>& writers) {
  BlockCompressor compressor(context);
  RETURN_IF_ERROR(compressor.Start(RowOf(context.spec.method).update ? writers.size() : 0));
  std::vector<std::vector<MatrixReport>> reports(writers.size());
  const int64_t layers = context.checkpoint.config().num_layers;
  for (int64_t layer = 0; layer < layers; ++layer) {
    RETURN_IF_ERROR(compressor.Calibrate(layer));
    RETURN_IF_ERROR(compressor.CompressLayer(layer, writers, reports));
    context.log.LayerDone();
    RETURN_IF_ERROR(context.log.Step(
        0, "", "layer " + std::to_string(layer + 1) + "/" + std::to_string(layers) + " done"));
  }
  return reports;
}

}  // namespace svdllm
