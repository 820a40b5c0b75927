#include "pipeline/memory_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "model/decoder.h"
#include "pipeline/generate_texts.h"
#include "pipeline/model_samples.h"
#include "pipeline/perplexity.h"
#include "pipeline/throughput.h"
#include "tasks/task_table.h"

namespace svdllm {
namespace {

// Layers that are gone through: one in front, one in the middle, one at the end.
constexpr int64_t kLayers = 3;

// count sequences of one length; what is in them does not matter.
Sequences Blank(int64_t count, int64_t length) {
  Sequences sequences;
  const std::vector<int32_t> one(static_cast<size_t>(length), 0);
  for (int64_t s = 0; s < count; ++s) sequences.Append(one);
  return sequences;
}

// What the residual streams of the calibration set take together.
int64_t StreamBytes(const CompressSpec& spec, const ModelConfig& config) {
  const MethodRow& row = RowOf(spec.method);
  if (row.statistic == Statistic::kNone) return 0;
  const bool prefixes = row.update || spec.method == Method::kAnchored;
  const auto streams = 1 + (prefixes ? static_cast<int64_t>(spec.keep_ratios.size()) : 0);
  return 4 * config.hidden_size * spec.calibration.samples * spec.calibration.seq_len * streams;
}

// Perplexity on as many windows of a text as are streamed at once.
absl::Status CountWindows(int64_t count, int64_t length, const Checkpoint& checkpoint,
                          Backend& backend, RunLog& log) {
  const int64_t bytes = 4 * checkpoint.config().hidden_size * length;
  EvaluationData text;
  text.windows = Blank(std::clamp<int64_t>(kGroupBytes / bytes, 1, count), length);
  return MeasurePerplexity(checkpoint, text, backend, log).status();
}

absl::Status CountEvaluation(const CompressSpec& spec, const Checkpoint& checkpoint,
                             Backend& backend, RunLog& log) {
  // Where the text alone decides how many there are.
  constexpr int64_t kManyWindows = 64, kQuestionTokens = 256;
  if (spec.evaluate_held_out) {
    RETURN_IF_ERROR(
        CountWindows(kHeldOutWindows, spec.calibration.seq_len, checkpoint, backend, log));
  }
  for (const PerplexitySpec& text : spec.evaluations) {
    RETURN_IF_ERROR(CountWindows(text.limit > 0 ? text.limit : kManyWindows, text.seq_len,
                                 checkpoint, backend, log));
  }
  if (spec.tasks.empty()) return absl::OkStatus();
  return CountWindows(kGroupBytes, kQuestionTokens, checkpoint, backend, log);  // a group full
}

// What needs the whole model in memory: its own samples, generated answers, and speed.
absl::StatusOr<int64_t> CountResident(const CompressSpec& spec, const Checkpoint& checkpoint,
                                      const CountingOptions& options) {
  // Prompts that are computed together: more, or longer ones, are rare.
  constexpr int64_t kPrompts = 32, kPromptTokens = 200;
  int64_t cache = SamplingCacheBytes(spec, checkpoint.config());
  for (const TaskSpec& task : spec.tasks) {
    ASSIGN_OR_RETURN(const TaskRow* const row, FindTask(task.task));
    if (row->kind != TaskKind::kGeneration) continue;
    cache = std::max(cache, GenerationCacheBytes(checkpoint.config()));
  }
  if (cache == 0 && !spec.throughput.any()) return 0;
  const std::unique_ptr<Backend> backend = NewCountingBackend(options);
  ASSIGN_OR_RETURN(const std::unique_ptr<Decoder> decoder,
                   Decoder::Load(checkpoint, *backend, [] { return absl::OkStatus(); }));
  const int64_t resident = backend->Memory().now;
  if (cache > 0) {
    const int64_t positions = checkpoint.config().max_position_embeddings;
    const Sequences prompts = Blank(kPrompts, std::min(kPromptTokens, positions));
    RETURN_IF_ERROR(decoder->Prefill(prompts.ids, prompts.offsets, prompts.length(0)).status());
  }
  if (spec.throughput.any()) {
    const int64_t batch = spec.throughput.batch_sizes.back();
    const Sequences prompts = Blank(batch, spec.throughput.prompt_tokens);
    RETURN_IF_ERROR(decoder
                        ->Prefill(prompts.ids, prompts.offsets,
                                  spec.throughput.prompt_tokens + spec.throughput.new_tokens - 1)
                        .status());
    const std::vector<int32_t> next(static_cast<size_t>(batch), 0);
    RETURN_IF_ERROR(decoder->Step(next).status());
  }
  return std::max(backend->Memory().peak, resident + cache);
}

// Everything that streams the model through, a layer at a time.
absl::StatusOr<int64_t> CountStreamed(const CompressSpec& spec, const Placement& placement,
                                      const CountingOptions& options) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(spec.model_dir));
  // Of all layers: what they leave behind, such as the streams of KL probes, is counted whole.
  const std::vector<Target> targets = Targets(checkpoint);
  checkpoint.KeepLayers(kLayers);
  // Behind so many tokens on the host more of them change nothing on the device.
  constexpr int64_t kManyTokens = int64_t{1} << 20;
  const int64_t length = spec.calibration.seq_len;
  const int64_t samples = placement.host_streams
                              ? std::min(spec.calibration.samples, (kManyTokens - 1) / length + 1)
                              : spec.calibration.samples;
  const Sequences calibration = Blank(samples, length);
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
  RETURN_IF_ERROR(CountEvaluation(spec, checkpoint, *backend, log));
  return backend->Memory().peak;
}

std::string GiB(int64_t bytes) {
  return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (int64_t{1} << 30));
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
  const CountingOptions options{
      .on_device = budget.on_device, .exact = budget.exact, .bf16 = budget.bf16};
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(spec.model_dir));
  ASSIGN_OR_RETURN(const int64_t resident, CountResident(spec, checkpoint, options));
  MemoryPlan plan;
  plan.stream_bytes = StreamBytes(spec, checkpoint.config());
  for (const Placement& placement : placements) {
    plan.placement = placement;
    // Not even begun where the streams alone are too much: there may be billions of tokens.
    plan.peak_bytes = plan.stream_bytes;
    const bool bounded = budget.memory_bytes > 0 && !placement.host_streams;
    if (bounded && plan.peak_bytes > budget.memory_bytes) continue;
    ASSIGN_OR_RETURN(const int64_t streamed, CountStreamed(spec, placement, options));
    plan.peak_bytes = std::max(resident, streamed);
    if (budget.memory_bytes == 0 || plan.peak_bytes <= budget.memory_bytes) return plan;
  }
  return MakeError(absl::StatusCode::kResourceExhausted,
                   budget.on_device ? kDeviceOutOfMemory : kHostOutOfMemory,
                   fmt::format("{}: this compression takes at least {} of {} memory, and {} may be "
                               "used; fewer or shorter calibration samples, fewer keep ratios or "
                               "another method take less",
                               spec.model_dir, GiB(plan.peak_bytes),
                               budget.on_device ? "device" : "host", GiB(budget.memory_bytes)));
}

}  // namespace svdllm
