#include "compress/cost.h"

#include <algorithm>
#include <set>

#include "compress/rank_rules.h"
#include "compress/statistics.h"

namespace svdllm {

namespace {

double Real(int64_t x) { return static_cast<double>(x); }

}  // namespace

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

}  // namespace svdllm
