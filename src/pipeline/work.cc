#include "pipeline/work.h"

#include <algorithm>
#include <set>

#include "pipeline/block_statistics.h"
#include "pipeline/kl_probe.h"
#include "pipeline/plan.h"

namespace svdllm {
namespace {

double Real(int64_t x) { return static_cast<double>(x); }

// KL probes: a pass of the calibration stream aside, every matrix's variant goes through the blocks
// behind its own and the head.
double ProbeFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                  const Workload& calibration) {
  const ModelConfig& config = checkpoint.config();
  const double layers = Real(config.num_layers);
  const double variants =
      layers *
      Real(static_cast<int64_t>(checkpoint.arch().linears.size() * spec.keep_ratios.size()));
  const double tokens = Real(KlProbe::Tokens(static_cast<int64_t>(calibration.tokens),
                                             config.hidden_size, Targets(checkpoint).size()));
  const double block = BlockFlops(config, checkpoint.arch(), tokens, KlProbe::kLength / 2.0);
  return variants * ((layers + 1) / 2 * block + HeadFlops(config, tokens)) + layers * block;
}

}  // namespace

double BlockFlops(const ModelConfig& config, const Architecture& arch, double tokens,
                  double positions) {
  double flops = 0;
  for (const LinearRow& row : arch.linears) {
    const LinearShape shape = ShapeOf(config, row.id);
    flops += 2 * Real(shape.rows * shape.cols) * tokens;
  }
  return flops + 4 * tokens * positions * Real(config.num_heads * config.head_dim);
}

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

double HeadFlops(const ModelConfig& config, double tokens) {
  const int64_t projection =
      config.embedding_size == config.hidden_size ? 0 : config.embedding_size * config.hidden_size;
  return 2 * Real(config.vocab_size * config.embedding_size + projection) * tokens;
}

int64_t KvCacheBytes(const ModelConfig& config, int64_t tokens) {
  return 4 * 2 * config.num_layers * config.num_kv_heads * config.head_dim * tokens;
}

double PerplexityFlops(const Checkpoint& checkpoint, const Workload& windows) {
  const ModelConfig& config = checkpoint.config();
  return Real(config.num_layers) *
             BlockFlops(config, checkpoint.arch(), windows.tokens, windows.positions) +
         HeadFlops(config, windows.tokens);
}

double CompressFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                     const Workload& calibration, const Workload& windows) {
  const ModelConfig& config = checkpoint.config();
  const Architecture& arch = checkpoint.arch();
  const MethodRow& method = RowOf(spec.method);
  const double layers = Real(config.num_layers);
  const double ratios = Real(static_cast<int64_t>(spec.keep_ratios.size()));
  const double forward = BlockFlops(config, arch, calibration.tokens, calibration.positions);
  const double pass = method.statistic == Statistic::kNone
                          ? 0
                          : forward + StatisticsFlops(spec, config, arch, calibration.tokens);
  const double decompose = DecomposeFlops(config, arch);
  double work = 0;
  if (spec.method == Method::kAnchored) {
    for (const Site site : {Site::kAttnIn, Site::kOIn, Site::kMlpIn, Site::kDownIn}) {
      work += layers * ratios * AnchoredFlops(config, arch, site, calibration);
    }
    work += layers * ratios * decompose * (1 + kFactorShare);
  } else {
    work += layers * (pass + decompose * (1 + ratios * kFactorShare));
    if (method.update) work += ratios * 2 * (layers - 1) * forward;
  }
  if (spec.allocation != Allocation::kUniform) {
    const bool probes = spec.allocation == Allocation::kKlProbe;
    work += layers * (pass + decompose * (probes ? 1 : kValuesShare));
    if (probes) work += ProbeFlops(spec, checkpoint, calibration);
  }
  return work + (1 + ratios) * PerplexityFlops(checkpoint, windows);
}

}  // namespace svdllm
