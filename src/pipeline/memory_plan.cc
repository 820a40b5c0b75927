#include "pipeline/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "compress/allocate.h"
#include "compress/layers.h"
#include "compress/rank_rules.h"
#include "corpus/model_samples.h"
#include "evaluate/resolve.h"
#include "pipeline/count_measurements.h"

namespace svdllm {
namespace {

// Layers that are gone through: one in front, one in the middle, one at the end.
constexpr int64_t kLayers = 3;

// What the residual streams of so many tokens take together.
int64_t StreamBytes(const CompressSpec& spec, const ModelConfig& config, int64_t tokens) {
  const MethodRow& row = RowOf(spec.method);
  if (row.statistic == Statistic::kNone) return 0;
  const bool prefixes = row.update || spec.method == Method::kAnchored;
  const auto streams = 1 + (prefixes ? static_cast<int64_t>(spec.keep_ratios.size()) : 0);
  return 4 * config.hidden_size * tokens * streams;
}

absl::StatusOr<int64_t> CountResident(const CompressSpec& spec, const Checkpoint& checkpoint,
                                      const CountingOptions& options) {
  return CountResident(SamplingCacheBytes(spec, checkpoint.config()), spec.tasks, spec.throughput,
                       checkpoint, options);
}

// Everything that streams the model through, a layer at a time.
absl::StatusOr<int64_t> CountStreamed(const CompressSpec& spec, const Placement& placement,
                                      const CountingOptions& options) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(spec.model_dir));
  // Of all layers: what they leave behind, such as the streams of KL probes, is counted whole.
  const std::vector<Target> targets = Targets(checkpoint);
  checkpoint.KeepLayers(kLayers);
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
  RunLog log(hooks, 1, checkpoint.config().num_layers);
  const CompressContext context{spec, checkpoint, targets, calibration, *backend, log, placement};
  // Its ranks mean nothing: there are no spectra.
  RETURN_IF_ERROR(AllocateRanks(context).status());
  std::vector<ArtifactWriter> writers;
  for (std::vector<int64_t>& ranks : UniformRanks(spec, targets)) {
    writers.push_back(ArtifactWriter::WithoutFiles(std::move(ranks)));
  }
  RETURN_IF_ERROR(CompressBlocks(context, writers).status());
  const int64_t compression = backend->Memory().peak + left_out;
  backend->ResetPeak();
  if (spec.evaluate_held_out) {
    RETURN_IF_ERROR(CountWindows(kHeldOutWindows, length, checkpoint, *backend, log));
  }
  RETURN_IF_ERROR(CountTexts(spec.evaluations, spec.tasks, checkpoint, *backend, log));
  return std::max(compression, backend->Memory().peak);
}

CountingOptions OptionsOf(const DeviceBudget& budget) {
  return {.on_device = budget.on_device, .exact = budget.exact, .bf16 = budget.bf16};
}

std::string GiB(int64_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (int64_t{1} << 30));
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

absl::StatusOr<int64_t> CountPeak(const CompressSpec& spec, const Placement& placement,
                                  const CountingOptions& options) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(spec.model_dir));
  ASSIGN_OR_RETURN(const int64_t resident, CountResident(spec, checkpoint, options));
  ASSIGN_OR_RETURN(const int64_t streamed, CountStreamed(spec, placement, options));
  return std::max(resident, streamed);
}

absl::StatusOr<MemoryPlan> PlanMemory(const CompressSpec& spec, const DeviceBudget& budget) {
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
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(spec.model_dir));
  ASSIGN_OR_RETURN(const int64_t resident, CountResident(spec, checkpoint, options));
  MemoryPlan plan;
  plan.stream_bytes =
      StreamBytes(spec, checkpoint.config(), spec.calibration.samples * spec.calibration.seq_len);
  for (const Placement& placement : placements) {
    plan.placement = placement;
    ASSIGN_OR_RETURN(const int64_t streamed, CountStreamed(spec, placement, options));
    plan.peak_bytes = std::max(resident, streamed);
    if (budget.memory_bytes == 0 || plan.peak_bytes <= budget.memory_bytes) return plan;
  }
  return TooMuch(spec.model_dir, "compression, laid out to take little,", plan.peak_bytes,
                 "fewer or shorter calibration samples, fewer keep ratios or another method",
                 budget);
}

absl::StatusOr<int64_t> PlanMemory(const EvaluateSpec& spec, const ThroughputSpec& throughput,
                                   const DeviceBudget& budget) {
  const CountingOptions options = OptionsOf(budget);
  int64_t most = 0;
  for (const std::string& dir : {spec.model_dir, spec.baseline_dir}) {
    if (dir.empty()) continue;
    ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(dir));
    ASSIGN_OR_RETURN(int64_t peak, CountResident(0, spec.tasks, throughput, checkpoint, options));
    ASSIGN_OR_RETURN(const std::vector<PerplexitySpec> texts,
                     ResolveSeqLens(spec.perplexities, checkpoint.config()));
    // The layers of an artifact differ in their ranks.
    if (!checkpoint.config().is_low_rank()) checkpoint.KeepLayers(kLayers);
    const std::unique_ptr<Backend> backend = NewCountingBackend(options);
    const RunHooks hooks;
    RunLog log(hooks, 1, checkpoint.config().num_layers);
    RETURN_IF_ERROR(CountTexts(texts, spec.tasks, checkpoint, *backend, log));
    peak = std::max(peak, backend->Memory().peak);
    if (budget.memory_bytes > 0 && peak > budget.memory_bytes) {
      return TooMuch(dir, "evaluation", peak, "shorter windows and smaller batches", budget);
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
