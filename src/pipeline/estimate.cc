#include "pipeline/estimate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <mutex>

#include "compress/allocate.h"
#include "compress/layers.h"
#include "corpus/model_samples.h"
#include "evaluate/throughput.h"

namespace svdllm {
namespace {

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

// Where the processor cannot be measured.
constexpr double kUnknownRate = 1e11;
// What is slower than the best by no more than this is as fast as it.
constexpr double kNoise = 1.2;
// A job's work is done at this share of a large product's rate, and what is no such work takes this
// long: measured, docs/performance.md.
constexpr double kShareOfRate = 0.82, kFixedSeconds = 0.5;
// How far the time may be off in either direction, as a factor: without a finished job to compare
// with, and at least, with one.
constexpr double kUnprovenSpread = 1.5, kProvenSpread = 1.25;
// Jobs whose work differs by more than the factor are not compared with; of the others the nearest.
constexpr double kFarWork = 16;
constexpr size_t kNearJobs = 5;

// seconds: on an idle machine.
void SetTime(double seconds, double spread, CompressPlan& plan) {
  plan.least_seconds = seconds / spread;
  plan.most_seconds = seconds * spread * plan.slowdown;
  plan.expected_seconds = std::sqrt(plan.least_seconds * plan.most_seconds);
}

}  // namespace

double CompressFlops(const CompressSpec& spec, const Checkpoint& checkpoint,
                     const Workload& calibration, const Workload& windows) {
  const double ratios = Real(static_cast<int64_t>(spec.keep_ratios.size()));
  return WayOf(spec.method).flops(spec, checkpoint, calibration) +
         AllocationFlops(spec, checkpoint, calibration) +
         (1 + ratios) * PerplexityFlops(checkpoint, windows);
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

ProcessorRate MeasureRate() {
  using Clock = std::chrono::steady_clock;
  constexpr auto kFresh = std::chrono::seconds(5);
  constexpr int64_t kOrder = 512;
  constexpr int kProducts = 12;
  constexpr double kFirstSeconds = 0.25;
  static std::mutex mutex;
  static ProcessorRate rate;
  static Clock::time_point measured_at;
  std::lock_guard<std::mutex> lock(mutex);
  if (rate.best > 0 && Clock::now() - measured_at < kFresh) return rate;
  const std::unique_ptr<Backend> backend = NewCpuBackend();
  const absl::StatusOr<Matrix> a = backend->New(kOrder, kOrder, DType::kF32),
                               c = backend->New(kOrder, kOrder, DType::kF32);
  if (!a.ok() || !c.ok()) return {kUnknownRate, kUnknownRate};
  const auto multiply = [&] {
    const auto start = Clock::now();
    backend->Gemm(false, true, 1, *a, *a, 0, *c).IgnoreError();
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  const double flops = 2.0 * kOrder * kOrder * kOrder;
  multiply();  // wakes the threads
  // The first time for longer: a processor that was idle, or that other guests of its host share,
  // needs a while to show what it can.
  const double least_seconds = rate.best > 0 ? 0 : kFirstSeconds;
  double seconds = 0;
  int products = 0;
  for (; products < kProducts || seconds < least_seconds; ++products) {
    const double one = std::max(multiply(), 1e-9);
    rate.best = std::max(rate.best, flops / one);
    seconds += one;
  }
  rate.now = products * flops / seconds;
  measured_at = Clock::now();
  return rate;
}

void EstimateTime(const ProcessorRate& rate, CompressPlan& plan) {
  const double slowdown = rate.best / std::max(rate.now, 1.0);
  plan.slowdown = slowdown > kNoise ? slowdown : 1;
  SetTime(kFixedSeconds + plan.work / (kShareOfRate * rate.best), kUnprovenSpread, plan);
}

void CorrectTime(std::span<const FinishedWork> finished, CompressPlan& plan) {
  if (plan.work <= 0) return;
  const auto distance = [&plan](const FinishedWork& job) {
    return std::abs(std::log(job.work / plan.work));
  };
  std::vector<FinishedWork> near;
  for (const FinishedWork& job : finished) {
    if (job.work <= 0 || job.seconds <= 0 || distance(job) > std::log(kFarWork)) continue;
    near.push_back(job);
  }
  if (near.empty()) return;
  // Of equals, the later ones, which come first.
  std::stable_sort(near.begin(), near.end(), [&](const FinishedWork& a, const FinishedWork& b) {
    return distance(a) < distance(b);
  });
  near.resize(std::min(near.size(), kNearJobs));
  std::vector<double> paces;  // seconds per operation
  for (const FinishedWork& job : near) paces.push_back(job.seconds / job.work);
  std::sort(paces.begin(), paces.end());
  const double middle = paces[paces.size() / 2];
  const double spread = std::max(paces.back() / middle, middle / paces.front());
  SetTime(plan.work * middle, std::max(spread, kProvenSpread), plan);
}

}  // namespace svdllm
