#include "pipeline/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/format.h"
#include "compress/allocate.h"
#include "compress/layers.h"
#include "compress/rank_rules.h"
#include "corpus/model_samples.h"
#include "pipeline/count_measurements.h"
#include "pipeline/pipeline.h"

namespace svdllm {
namespace {

// Layers that are gone through: one in front, one in the middle, one at the end.
constexpr int64_t kLayers = 3;

// What the residual streams of so many tokens take together.
int64_t StreamBytes(const CompressSpec& spec, const ModelConfig& config, int64_t tokens) {
  if (RowOf(spec.method).statistic == Statistic::kNone) return 0;
  const auto ratios = static_cast<int64_t>(spec.keep_ratios.size());
  const int64_t streams = 1 + WayOf(spec.method).streams_per_ratio * ratios;
  return 4 * config.hidden_size * tokens * streams;
}

absl::StatusOr<int64_t> CountResident(const CompressJob& job, const CountingOptions& options) {
  return CountResident(SamplingCacheBytes(job.spec, job.checkpoint.config()), job.spec.measure,
                       job.checkpoint, options);
}

// Everything that streams the model through, a layer at a time.
absl::StatusOr<int64_t> CountStreamed(const CompressJob& job, const Placement& placement,
                                      const CountingOptions& options) {
  const CompressSpec& spec = job.spec;
  // The list of linear layers stays whole: what all of them leave behind, such as the streams of KL
  // probes, is counted for all.
  const Checkpoint checkpoint = job.checkpoint.FirstLayers(kLayers);
  // Behind so many tokens more of them only make the residual streams longer.
  constexpr int64_t kManyTokens = int64_t{1} << 20;
  const int64_t length = spec.calibration.seq_len;
  const int64_t samples = std::min(spec.calibration.samples, (kManyTokens - 1) / length + 1);
  const int64_t left_out =
      placement.host_streams
          ? 0
          : StreamBytes(spec, checkpoint.config(), (spec.calibration.samples - samples) * length);
  const Sequences calibration = BlankSequences(samples, length);
  const std::unique_ptr<Backend> backend = NewCountingBackend(options);
  const RunHooks hooks;
  Progress progress(hooks, 1, checkpoint.config().num_layers);
  const CompressRun run{spec, checkpoint, job.linears, calibration, *backend, progress, placement};
  // Its ranks mean nothing: there are no spectra.
  RETURN_IF_ERROR(AllocateRanks(run).status());
  std::vector<FactorSink> sinks;
  for (std::vector<int64_t>& ranks : UniformRanks(spec, job.linears)) {
    sinks.push_back({std::move(ranks), {}});
  }
  RETURN_IF_ERROR(CompressLayers(run, sinks).status());
  const int64_t compression = backend->Memory().peak + left_out;
  backend->ResetPeak();
  if (spec.evaluate_held_out) {
    RETURN_IF_ERROR(CountWindows(kHeldOutWindows, length, checkpoint, *backend, progress));
  }
  RETURN_IF_ERROR(CountStreamedMeasures(spec.measure, checkpoint, *backend, progress));
  return std::max(compression, backend->Memory().peak);
}

CountingOptions OptionsOf(const DeviceBudget& budget) {
  return {.on_device = budget.on_device, .exact = budget.exact, .bf16 = budget.bf16};
}

absl::Status TooMuch(const std::string& dir, const char* job, int64_t bytes, const char* advice,
                     const DeviceBudget& budget) {
  return MakeError(
      absl::StatusCode::kResourceExhausted,
      budget.on_device ? kDeviceOutOfMemory : kHostOutOfMemory,
      fmt::format("{}: this {} takes {} of {} memory, and {} may be used; {} take less", dir, job,
                  GiB(bytes), budget.on_device ? "device" : "host", GiB(budget.memory_bytes),
                  advice));
}

}  // namespace

absl::StatusOr<int64_t> CountPeak(const CompressJob& job, const Placement& placement,
                                  const CountingOptions& options) {
  ASSIGN_OR_RETURN(const int64_t resident, CountResident(job, options));
  ASSIGN_OR_RETURN(const int64_t streamed, CountStreamed(job, placement, options));
  return std::max(resident, streamed);
}

absl::StatusOr<MemoryPlan> PlanMemory(const CompressJob& job, const DeviceBudget& budget) {
  // From the fastest to the least demanding.
  std::vector<Placement> placements;
  if (budget.on_device) {
    placements = {{.overlap = true},
                  {.host_streams = true, .overlap = true},
                  {.host_streams = true},
                  {.host_streams = true, .one_matrix = true}};
  } else {
    placements = {{}, {.one_matrix = true}};
  }
  const CountingOptions options = OptionsOf(budget);
  ASSIGN_OR_RETURN(const int64_t resident, CountResident(job, options));
  const CalibrationSpec& calibration = job.spec.calibration;
  MemoryPlan plan;
  plan.stream_bytes =
      StreamBytes(job.spec, job.checkpoint.config(), calibration.samples * calibration.seq_len);
  for (const Placement& placement : placements) {
    plan.placement = placement;
    ASSIGN_OR_RETURN(const int64_t streamed, CountStreamed(job, placement, options));
    plan.peak_bytes = std::max(resident, streamed);
    if (budget.memory_bytes == 0 || plan.peak_bytes <= budget.memory_bytes) return plan;
  }
  return TooMuch(job.spec.model_dir, "compression, laid out to take little,", plan.peak_bytes,
                 "fewer or shorter calibration samples, fewer keep ratios or another method",
                 budget);
}

absl::StatusOr<int64_t> PlanMemory(const EvaluateJob& job, const DeviceBudget& budget) {
  const CountingOptions options = OptionsOf(budget);
  int64_t most = 0;
  for (const Subject& subject : job.models) {
    ASSIGN_OR_RETURN(int64_t peak, CountResident(0, subject.measure, subject.checkpoint, options));
    // The layers of an artifact differ in their ranks.
    const Checkpoint checkpoint = subject.checkpoint.config().is_low_rank()
                                      ? subject.checkpoint
                                      : subject.checkpoint.FirstLayers(kLayers);
    const std::unique_ptr<Backend> backend = NewCountingBackend(options);
    const RunHooks hooks;
    Progress progress(hooks, 1, checkpoint.config().num_layers);
    RETURN_IF_ERROR(CountStreamedMeasures(subject.measure, checkpoint, *backend, progress));
    peak = std::max(peak, backend->Memory().peak);
    if (budget.memory_bytes > 0 && peak > budget.memory_bytes) {
      return TooMuch(checkpoint.dir(), "evaluation", peak, "shorter windows and smaller batches",
                     budget);
    }
    most = std::max(most, peak);
  }
  return most;
}

DeviceBudget BudgetOf(const Backend& backend) {
  return {.on_device = backend.OnDevice(),
          .memory_bytes = backend.Memory().limit,
          .exact = backend.WeightType(DType::kF16) == DType::kF32,
          .bf16 = backend.WeightType(DType::kBF16) == DType::kBF16};
}

int64_t HostBytes(int64_t weight_bytes, bool on_device) {
  // Libraries, the tokenizer and texts; of a device also its driver, pinned buffers and a matrix on
  // its way.
  constexpr int64_t kProcessBytes = int64_t{200} << 20, kDeviceBytes = int64_t{800} << 20;
  return weight_bytes + kProcessBytes + (on_device ? kDeviceBytes : 0);
}

}  // namespace svdllm
