#include "pipeline/estimate.h"

#include <algorithm>
#include <chrono>

#include "compress/cost.h"
#include "compress/kl_probe.h"
#include "compress/layers.h"
#include "corpus/model_samples.h"
#include "evaluate/throughput.h"

namespace svdllm {
namespace {

// KL probes: a pass of the calibration stream aside, every matrix's variant goes through the blocks
// behind its own and the head.
double ProbeFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                  const Workload& calibration) {
  const ModelConfig& config = checkpoint.config();
  const double layers = Real(config.num_layers);
  const double variants =
      layers *
      Real(static_cast<int64_t>(checkpoint.arch().linears.size() * spec.keep_ratios.size()));
  const double tokens = Real(
      KlProbe::Tokens(static_cast<int64_t>(calibration.tokens), config.hidden_size,
                      checkpoint.arch().linears.size() * static_cast<size_t>(config.num_layers)));
  const double block = BlockFlops(config, checkpoint.arch(), tokens, KlProbe::kLength / 2.0);
  return variants * ((layers + 1) / 2 * block + HeadFlops(config, tokens)) + layers * block;
}

// What perplexity will be measured on; a guess where the text alone decides how long it is.
std::vector<Workload> ExpectedWindows(const CompressSpec& spec) {
  std::vector<Workload> windows;
  const auto add = [&windows](int64_t count, int64_t length) {
    windows.push_back({Real(count * length), Real(length) / 2});
  };
  if (spec.evaluate_held_out) {
    add(kHeldOutWindows * static_cast<int64_t>(spec.calibration.sources.size()),
        spec.calibration.seq_len);
  }
  for (const PerplexitySpec& text : spec.measure.texts) {
    add(text.limit > 0 ? text.limit : 100, text.seq_len);
  }
  for (const TaskSpec& task : spec.measure.tasks) add(task.limit > 0 ? task.limit : 1000, 150);
  return windows;
}

}  // namespace

double CompressFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                     const Workload& calibration, const Workload& windows) {
  const double layers = Real(checkpoint.config().num_layers);
  const double ratios = Real(static_cast<int64_t>(spec.keep_ratios.size()));
  double work = WayOf(spec.method).flops(spec, checkpoint, calibration);
  const AllocationRow& allocation = RowOf(spec.allocation);
  if (allocation.needs_spectra) {
    work += layers * (PassFlops(spec, checkpoint, calibration) +
                      DecomposeFlops(checkpoint.config(), checkpoint.arch()) *
                          (allocation.probes ? 1 : kValuesShare));
  }
  if (allocation.probes) work += ProbeFlops(spec, checkpoint, calibration);
  return work + (1 + ratios) * PerplexityFlops(checkpoint, windows);
}

double ExpectedFlops(const CompressJob& job) {
  const auto& [spec, checkpoint, linears] = job;
  const auto length = Real(spec.calibration.seq_len);
  const Workload calibration{Real(spec.calibration.samples) * length, length / 2};
  Workload all;
  for (const Workload& windows : ExpectedWindows(spec)) {
    const double tokens = all.tokens + windows.tokens;
    all.positions = (all.positions * all.tokens + windows.positions * windows.tokens) / tokens;
    all.tokens = tokens;
  }
  const auto models = Real(static_cast<int64_t>(1 + spec.keep_ratios.size()));
  return SamplingFlops(spec, checkpoint) + CompressFlops(spec, checkpoint, calibration, all) +
         models * ThroughputFlops(checkpoint, spec.measure.throughput);
}

// Single-precision products on this machine, FLOP/s; measured once, in milliseconds.
double MeasuredRate() {
  static const double rate = [] {
    const std::unique_ptr<Backend> backend = NewCpuBackend();
    constexpr int64_t kOrder = 512;
    const absl::StatusOr<Matrix> a = backend->New(kOrder, kOrder, DType::kF32),
                                 c = backend->New(kOrder, kOrder, DType::kF32);
    if (!a.ok() || !c.ok()) return 1e11;
    double best = 1e9;
    for (int i = 0; i < 4; ++i) {
      const auto start = std::chrono::steady_clock::now();
      backend->Gemm(false, true, 1, *a, *a, 0, *c).IgnoreError();
      best = std::min(
          best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return 2.0 * kOrder * kOrder * kOrder / best;
  }();
  return rate;
}

}  // namespace svdllm
