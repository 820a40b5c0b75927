// What calibration gathers about one block: at most one accumulator per site.
#pragma once

#include <array>
#include <string>

#include "lowrank/decomposition.h"
#include "lowrank/method.h"
#include "model/forward.h"

namespace svdllm {

// Linears that read the same activation share one Gram matrix. Where the only reader of a site is
// wide (out < in), the Gram matrix of its outputs, W G Wᵀ, is smaller and all that its eigenproblem
// needs. It is gathered instead, with some rows of the input beside it to measure what rounding
// costs.
class BlockStatistics {
 public:
  // With output_grams false, every site gets the Gram matrix of its inputs.
  static absl::StatusOr<BlockStatistics> Create(const ModelConfig& config, const Architecture& arch,
                                                Statistic statistic, bool output_grams,
                                                Backend& backend);

  // Returns the observer that adds what passes through RunBlock. Grams are products in the block's
  // precision. The observer must not outlive this object, nor be used after a move.
  BlockObserver Observer(DType precision);
  // Call it once, after the last token. A statistic that is not finite is NUMERICAL_FAILURE
  // "calibrate: <layer> <site>: …". asvd_alpha is the exponent of the channel scales.
  absl::Status Finish(const std::string& layer, double asvd_alpha);

  // The metric of a linear, of a finished object. It is a view, valid while this object lives.
  Metric MetricOf(LinearId id) const;
  // Some rows of the inputs of this linear, F32 [rows, in]. There are none where its metric is not
  // an output Gram.
  MatrixRef SampleOf(LinearId id) const;

  // Whether the site has one reader only, and a wide one. *reader becomes one of the site's
  // readers.
  static bool UsesOutputGram(const ModelConfig& config, const Architecture& arch, Site site,
                             LinearId* reader);

 private:
  struct SiteStatistic {
    Matrix gram;          // F64 [n, n], or [m, m] where output is set
    Matrix scale;         // F64 [1, n]
    Matrix sample;        // F32 [kSampleRows, n]
    int64_t sampled = 0;  // rows in it
    int64_t tokens = 0;
    bool output = false;
    LinearId reader = LinearId::kQ;
  };
  SiteStatistic& site(Site s) { return sites_[static_cast<size_t>(s)]; }
  const SiteStatistic& SiteOf(LinearId id) const;

  const Architecture* arch_ = nullptr;
  Backend* backend_ = nullptr;
  Statistic statistic_ = Statistic::kNone;
  std::array<SiteStatistic, kNumSites> sites_;
};

}  // namespace svdllm
