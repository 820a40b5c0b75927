#include "compress/statistics.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace svdllm {
namespace {

// Enough to average a rounding error over; a batch gives at most kRowsOfBatch of them, so that they
// come from all over the calibration set.
constexpr int64_t kSampleRows = 2048;
constexpr int64_t kRowsOfBatch = 256;

}  // namespace

bool BlockStatistics::UsesOutputGram(const ModelConfig& config, const Architecture& arch, Site site,
                                     LinearId* reader) {
  int readers = 0;
  for (const LinearRow& row : arch.linears) {
    if (row.input != site) continue;
    ++readers;
    *reader = row.id;
  }
  const LinearShape shape = ShapeOf(config, *reader);
  return readers == 1 && shape.rows < shape.cols;
}

absl::StatusOr<BlockStatistics> BlockStatistics::Create(const ModelConfig& config,
                                                        const Architecture& arch,
                                                        Statistic statistic, bool output_grams,
                                                        Backend& backend) {
  BlockStatistics statistics;
  statistics.arch_ = &arch;
  statistics.backend_ = &backend;
  statistics.statistic_ = statistic;
  for (const LinearRow& row : arch.linears) {
    SiteStatistic& s = statistics.site(row.input);
    const LinearShape shape = ShapeOf(config, row.id);
    if (statistic == Statistic::kMeanAbs && s.scale.empty()) {
      ASSIGN_OR_RETURN(s.scale, backend.New(1, shape.cols, DType::kF64));
    }
    if (statistic == Statistic::kGram && s.gram.empty()) {
      s.output = UsesOutputGram(config, arch, row.input, &s.reader) && output_grams;
      const int64_t order = s.output ? shape.rows : shape.cols;
      ASSIGN_OR_RETURN(s.gram, backend.New(order, order, DType::kF64));
      if (s.output) {
        ASSIGN_OR_RETURN(s.sample, backend.New(kSampleRows, shape.cols, DType::kF32));
      }
    }
  }
  return statistics;
}

BlockObserver BlockStatistics::Observer(DType precision) {
  BlockObserver observer;
  observer.input = [this, precision](Site which, MatrixRef x) -> absl::Status {
    SiteStatistic& s = site(which);
    s.tokens += x.rows;
    if (statistic_ == Statistic::kMeanAbs) return backend_->AccumulateAbs(x, s.scale);
    if (statistic_ != Statistic::kGram) return absl::OkStatus();
    if (!s.output) return backend_->AccumulateGram(x, precision, s.gram);
    const int64_t rows = std::min({kRowsOfBatch, x.rows, kSampleRows - s.sampled});
    if (rows <= 0) return absl::OkStatus();
    RETURN_IF_ERROR(backend_->Copy(x.Rows(0, rows), s.sample.ref().Rows(s.sampled, rows)));
    s.sampled += rows;
    return absl::OkStatus();
  };
  if (statistic_ == Statistic::kGram) {
    observer.output = [this, precision](LinearId id, MatrixRef y) -> absl::Status {
      for (SiteStatistic& s : sites_) {
        if (s.output && s.reader == id) return backend_->AccumulateGram(y, precision, s.gram);
      }
      return absl::OkStatus();
    };
  }
  return observer;
}

absl::Status BlockStatistics::Finish(const std::string& layer, double asvd_alpha) {
  for (int i = 0; i < kNumSites; ++i) {
    SiteStatistic& s = sites_[static_cast<size_t>(i)];
    const Matrix& matrix = s.scale.empty() ? s.gram : s.scale;
    if (matrix.empty()) continue;
    if (!s.gram.empty()) RETURN_IF_ERROR(backend_->MirrorLower(s.gram));
    ASSIGN_OR_RETURN(const bool finite, backend_->AllFinite(matrix));
    if (!finite) {
      return MakeError(absl::StatusCode::kInternal, kNumericalFailure,
                       "calibrate: " + layer + " " + std::string(SiteName(static_cast<Site>(i))) +
                           ": non-finite " + (s.gram.empty() ? "activations" : "Gram matrix"));
    }
    if (s.scale.empty()) continue;
    std::vector<double> scale(static_cast<size_t>(s.scale.cols()));
    RETURN_IF_ERROR(backend_->Download(s.scale, scale.data(), DType::kF64));
    for (double& value : scale) {
      value = std::pow(value / static_cast<double>(std::max<int64_t>(s.tokens, 1)), asvd_alpha);
    }
    RETURN_IF_ERROR(backend_->Upload(scale.data(), DType::kF64, s.scale));
  }
  return absl::OkStatus();
}

const BlockStatistics::SiteStatistic& BlockStatistics::SiteOf(LinearId id) const {
  for (const LinearRow& row : arch_->linears) {
    if (row.id == id) return sites_[static_cast<size_t>(row.input)];
  }
  return sites_[0];
}

Metric BlockStatistics::MetricOf(LinearId id) const {
  const SiteStatistic& s = SiteOf(id);
  Metric metric;
  if (statistic_ == Statistic::kMeanAbs) metric.scale = s.scale;
  if (statistic_ == Statistic::kGram) (s.output ? metric.output_gram : metric.gram) = s.gram;
  return metric;
}

MatrixRef BlockStatistics::SampleOf(LinearId id) const {
  const SiteStatistic& s = SiteOf(id);
  return s.sample.ref().Rows(0, s.sampled);
}

}  // namespace svdllm
