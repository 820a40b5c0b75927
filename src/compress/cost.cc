#include "compress/cost.h"

#include <algorithm>
#include <set>

#include "compress/rank_rules.h"
#include "compress/statistics.h"

namespace svdllm {

double StatisticsFlops(const CompressSpec& spec, const ModelConfig& config,
                       const Architecture& arch, double tokens) {
  if (RowOf(spec.method).statistic != Statistic::kGram) return 0;
  std::set<Site> seen;
  double flops = 0;
  for (const LinearRow& row : arch.linears) {
    if (!seen.insert(row.input).second) continue;
    LinearId reader;
    const LinearShape shape = ShapeOf(config, row.id);
    const bool output =
        WantsOutputGrams(spec) && BlockStatistics::UsesOutputGram(config, arch, row.input, &reader);
    const double order = Real(output ? shape.rows : shape.cols);
    flops += order * order * tokens;  // one triangle
  }
  return flops;
}

double AnchoredFlops(const ModelConfig& config, const Architecture& arch, Site site,
                     const Workload& work) {
  LinearId reader;
  const bool output = BlockStatistics::UsesOutputGram(config, arch, site, &reader);
  const LinearShape shape = ShapeOf(config, reader);
  const double n = Real(shape.cols), m = Real(shape.rows);
  double flops = n * n + (output ? 4 * m * n : 2 * n * n);
  // Both streams pass through the site's half of the block where the site ends it.
  if (site == Site::kOIn || site == Site::kDownIn) {
    flops += BlockFlops(config, arch, 1, work.positions);
  }
  return flops * work.tokens;
}

double DecomposeFlops(const ModelConfig& config, const Architecture& arch) {
  double flops = 0;
  for (const LinearRow& row : arch.linears) {
    const LinearShape shape = ShapeOf(config, row.id);
    const double m = Real(shape.rows), n = Real(shape.cols), p = std::min(m, n);
    flops += 9 * p * p * p + 4 * p * p * n + (m > n ? 4 * m * n * n : 0) + 2 * m * n * n;
  }
  return 2 * flops;  // F64
}

double PassFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                 const Workload& calibration) {
  if (RowOf(spec.method).statistic == Statistic::kNone) return 0;
  const ModelConfig& config = checkpoint.config();
  const Architecture& arch = checkpoint.arch();
  return BlockFlops(config, arch, calibration.tokens, calibration.positions) +
         StatisticsFlops(spec, config, arch, calibration.tokens);
}

double DenseLayersFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                        const Workload& calibration) {
  const ModelConfig& config = checkpoint.config();
  const Architecture& arch = checkpoint.arch();
  const double layers = Real(config.num_layers);
  const double ratios = Real(static_cast<int64_t>(spec.keep_ratios.size()));
  const double work = layers * (PassFlops(spec, checkpoint, calibration) +
                                DecomposeFlops(config, arch) * (1 + ratios * kFactorShare));
  if (RowOf(spec.method).prefix != Prefix::kRefit) return work;
  return work + ratios * 2 * (layers - 1) *
                    BlockFlops(config, arch, calibration.tokens, calibration.positions);
}

double AnchoredLayersFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                           const Workload& calibration) {
  const ModelConfig& config = checkpoint.config();
  const Architecture& arch = checkpoint.arch();
  double layer = DecomposeFlops(config, arch) * (1 + kFactorShare);
  for (const Site site : {Site::kAttnIn, Site::kOIn, Site::kMlpIn, Site::kDownIn}) {
    layer += AnchoredFlops(config, arch, site, calibration);
  }
  return Real(config.num_layers) * Real(static_cast<int64_t>(spec.keep_ratios.size())) * layer;
}

}  // namespace svdllm
