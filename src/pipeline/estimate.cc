#include "pipeline/estimate.h"

#include <algorithm>
#include <set>

#include "checkpoint/linears.h"
#include "compress/cost.h"
#include "compress/kl_probe.h"

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
