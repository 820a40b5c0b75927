#include "pipeline/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "corpus/model_samples.h"
#include "evaluate/prompts.h"
#include "evaluate/throughput.h"
#include "linalg/backend.h"
#include "pipeline/estimate.h"
#include "pipeline/memory_plan.h"
#include "pipeline/pipeline.h"
#include "tasks/text_tasks.h"

namespace svdllm {
namespace {

absl::Status InvalidField(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, kInvalidField, message);
}

// What perplexity will be measured on; a guess where the text alone decides how long it is.
std::vector<Workload> ExpectedWindows(const CompressSpec& spec) {
  std::vector<Workload> windows;
  const auto add = [&windows](int64_t count, int64_t length) {
    windows.push_back({static_cast<double>(count * length), static_cast<double>(length) / 2});
  };
  if (spec.evaluate_held_out) {
    add(kHeldOutWindows * static_cast<int64_t>(spec.calibration.sources.size()),
        spec.calibration.seq_len);
  }
  for (const PerplexitySpec& text : spec.evaluations) {
    add(text.limit > 0 ? text.limit : 100, text.seq_len);
  }
  for (const TaskSpec& task : spec.tasks) add(task.limit > 0 ? task.limit : 1000, 150);
  return windows;
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

double ExpectedFlops(const CompressSpec& spec, const Checkpoint& checkpoint) {
  const auto length = static_cast<double>(spec.calibration.seq_len);
  const Workload calibration{static_cast<double>(spec.calibration.samples) * length, length / 2};
  Workload all;
  for (const Workload& windows : ExpectedWindows(spec)) {
    const double tokens = all.tokens + windows.tokens;
    all.positions = (all.positions * all.tokens + windows.positions * windows.tokens) / tokens;
    all.tokens = tokens;
  }
  const auto models = static_cast<double>(1 + spec.keep_ratios.size());
  return SamplingFlops(spec, checkpoint) + CompressFlops(spec, checkpoint, calibration, all) +
         models * ThroughputFlops(checkpoint, spec.throughput);
}

}  // namespace

namespace {

absl::Status CheckSources(const CalibrationSpec& calibration) {
  if (calibration.sources.empty()) {
    return InvalidField("calibration.sources: at least one is needed");
  }
  if (calibration.samples < static_cast<int64_t>(calibration.sources.size())) {
    return InvalidField("calibration.samples: " + std::to_string(calibration.samples) +
                        " are fewer than the " + std::to_string(calibration.sources.size()) +
                        " sources, each of which gives at least one");
  }
  for (size_t i = 0; i < calibration.sources.size(); ++i) {
    const CalibrationSource& source = calibration.sources[i];
    const std::string where = "calibration.sources[" + std::to_string(i) + "]";
    if (!(source.weight > 0 && source.weight <= kMaxSourceWeight)) {
      return InvalidField(where + ".weight: must be above 0 and at most 1000000");
    }
    if (source.model_samples != source.text.path.empty()) {
      return InvalidField(where + ": needs either a text or the model's own samples");
    }
  }
  return absl::OkStatus();
}

}  // namespace

namespace {

// Whether the keep ratios can be met with every matrix at its least rank.
absl::Status CheckLeastRanks(const CompressSpec& spec, const Checkpoint& checkpoint) {
  std::vector<AllocationItem> items;
  for (const Target& target : Targets(checkpoint)) {
    AllocationItem item;
    item.rows = target.rows;
    item.cols = target.cols;
    item.spectrum.resize(static_cast<size_t>(std::min(target.rows, target.cols)));
    items.push_back(std::move(item));
  }
  for (const double keep_ratio : spec.keep_ratios) {
    const double least = LeastKeepRatio(items, RulesOf(spec, keep_ratio));
    if (least <= keep_ratio) continue;
    return InvalidField(fmt::format(
        "keep_ratios: {} cannot be met: with min_keep_ratio {} and rank_multiple {} this model's "
        "matrices keep at least {:.4f}",
        keep_ratio, spec.min_keep_ratio, spec.rank_multiple, least));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CompressSpec> ResolveCompress(const CompressSpec& spec,
                                             const Checkpoint& checkpoint) {
  CompressSpec resolved = spec;
  const ModelConfig& config = checkpoint.config();
  if (config.is_low_rank()) {
    return MakeError(absl::StatusCode::kInvalidArgument, kUnsupportedArchitecture,
                     "model: " + checkpoint.dir() + " is compressed already (" + config.model_type +
                         "); compress its dense original instead");
  }
  if (spec.keep_ratios.empty()) return InvalidField("keep_ratios: at least one is needed");
  for (const double ratio : spec.keep_ratios) {
    if (!(ratio > 0 && ratio <= 1)) {
      return InvalidField("keep_ratios: " + std::to_string(ratio) + " is not in (0, 1]");
    }
  }
  std::sort(resolved.keep_ratios.begin(), resolved.keep_ratios.end(), std::greater<>());
  if (std::adjacent_find(resolved.keep_ratios.begin(), resolved.keep_ratios.end()) !=
      resolved.keep_ratios.end()) {
    return InvalidField("keep_ratios: a ratio is given twice");
  }
  CalibrationSpec& calibration = resolved.calibration;
  if (calibration.samples < 1) return InvalidField("calibration.samples: must be at least 1");
  if (calibration.first_document < 0) {
    return InvalidField("calibration.first_document: must not be negative");
  }
  RETURN_IF_ERROR(CheckSources(calibration));
  ASSIGN_OR_RETURN(calibration.seq_len,
                   ResolveSeqLen(calibration.seq_len, config, "calibration.seq_len"));
  const bool samples = std::any_of(calibration.sources.begin(), calibration.sources.end(),
                                   [](const auto& source) { return source.model_samples; });
  if (samples && config.rope.kind == RopeKind::kDynamic &&
      calibration.seq_len > config.max_position_embeddings) {
    return InvalidField(fmt::format(
        "calibration.seq_len: {} tokens of the model's own samples are more than its "
        "max_position_embeddings, {}, beyond which dynamic rotary scaling cannot be cached",
        calibration.seq_len, config.max_position_embeddings));
  }
  std::set<std::string> names;
  for (PerplexitySpec& evaluation : resolved.evaluations) {
    const std::string where = "evaluation: " + evaluation.name;
    if (evaluation.name.empty()) return InvalidField("evaluation: a text without a name");
    if (evaluation.name.rfind(kHeldOutName, 0) == 0 || !names.insert(evaluation.name).second) {
      return InvalidField(where + ": the name is another figure's");
    }
    ASSIGN_OR_RETURN(evaluation.seq_len,
                     ResolveSeqLen(evaluation.seq_len, config, where + ": seq_len"));
  }
  for (const TaskSpec& task : resolved.tasks) {
    if (task.name.empty()) return InvalidField("evaluation: a task without a name");
    if (!names.insert(task.name).second) {
      return InvalidField("evaluation: " + task.name + ": the name is another figure's");
    }
    RETURN_IF_ERROR(CheckTask(task));
  }
  ASSIGN_OR_RETURN(resolved.throughput,
                   ResolveThroughput(spec.throughput, config, "evaluation.throughput"));
  for (const auto& [value, name] :
       {std::pair(spec.asvd_alpha, "asvd_alpha"), std::pair(spec.anchor_blend, "anchor_blend"),
        std::pair(spec.anchor_ridge, "anchor_ridge")}) {
    if (!(value >= 0 && value <= 1)) {
      return InvalidField(std::string(name) + ": must be in [0, 1]");
    }
  }
  if (spec.rank_multiple < 1) return InvalidField("rank_multiple: must be at least 1");
  if (!(spec.min_keep_ratio >= 0 && spec.min_keep_ratio < 1)) {
    return InvalidField("min_keep_ratio: must be at least 0 and below 1");
  }
  const bool has_floor =
      spec.allocation != Allocation::kUniform && spec.allocation != Allocation::kV2;
  if (has_floor && spec.min_keep_ratio > resolved.keep_ratios.back()) {
    return InvalidField(fmt::format("min_keep_ratio: {} is above the keep ratio {}",
                                    spec.min_keep_ratio, resolved.keep_ratios.back()));
  }
  if (has_floor) RETURN_IF_ERROR(CheckLeastRanks(resolved, checkpoint));
  return resolved;
}

CompressPlan MakePlan(const CompressSpec& spec, const Checkpoint& checkpoint) {
  const std::vector<Target> targets = Targets(checkpoint);
  CompressPlan plan;
  plan.calibration_seq_len = spec.calibration.seq_len;
  for (const PerplexitySpec& evaluation : spec.evaluations) {
    plan.evaluation_seq_lens.push_back(evaluation.seq_len);
  }
  plan.prompt_tokens = spec.throughput.prompt_tokens;
  plan.parameters = checkpoint.parameters();
  plan.weight_bytes = checkpoint.weight_bytes();
  plan.ranks_are_final = spec.allocation == Allocation::kUniform;
  for (const Target& target : targets) plan.target_parameters += target.rows * target.cols;
  for (const double keep_ratio : spec.keep_ratios) {
    const RankRules rules = RulesOf(spec, keep_ratio);
    ArtifactPlan artifact;
    artifact.keep_ratio = keep_ratio;
    artifact.parameters = plan.parameters;
    artifact.weight_bytes = plan.weight_bytes;
    for (const Target& target : targets) {
      const int64_t rank = UniformRank(rules, target.rows, target.cols);
      artifact.matrices.push_back({target.name, target.rows, target.cols, rank});
      if (spec.output_format == OutputFormat::kDense) continue;
      const int64_t saved =
          target.rows * target.cols - StoredNumbers(spec.encoding, target.rows, target.cols, rank);
      // A pivoted matrix has an order of its rows beside its numbers.
      if (spec.encoding == Encoding::kPivoted && rank > 0) {
        artifact.weight_bytes += target.rows * static_cast<int64_t>(SizeOf(DType::kI32));
      }
      const absl::StatusOr<TensorSpec> tensor = checkpoint.Spec(target.name + ".weight");
      artifact.parameters -= saved;
      if (tensor.ok()) artifact.weight_bytes -= saved * static_cast<int64_t>(SizeOf(tensor->dtype));
    }
    plan.scratch_bytes += artifact.weight_bytes + (int64_t{64} << 20);
    plan.artifacts.push_back(std::move(artifact));
  }
  plan.expected_seconds = ExpectedFlops(spec, checkpoint) / MeasuredRate();
  return plan;
}

absl::StatusOr<CompressPlan> PlanCompress(const CompressSpec& spec, const DeviceBudget& budget) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(spec.model_dir));
  ASSIGN_OR_RETURN(const CompressSpec resolved, ResolveCompress(spec, checkpoint));
  CompressPlan plan = MakePlan(resolved, checkpoint);
  MemoryPlan memory;
  // A host without a bound has nothing that must fit.
  if (budget.on_device || budget.memory_bytes > 0) {
    ASSIGN_OR_RETURN(memory, PlanMemory(resolved, budget));
  }
  plan.peak_host_bytes = HostBytes(plan.weight_bytes, budget.on_device);
  if (!budget.on_device) {
    ASSIGN_OR_RETURN(const int64_t peak, CountPeak(resolved, memory.placement,
                                                   {.on_device = false, .host_scratch = true}));
    plan.peak_host_bytes += peak;
    return plan;
  }
  plan.peak_device_bytes = memory.peak_bytes;
  if (memory.placement.host_streams) plan.peak_host_bytes += memory.stream_bytes;
  plan.expected_seconds = 0;  // nobody has measured how fast the device is
  return plan;
}

std::vector<std::string> OutputUris(const CompressSpec& spec) {
  if (spec.keep_ratios.size() == 1) return {spec.output_uri};
  std::vector<std::string> uris;
  for (const double ratio : spec.keep_ratios) {
    // Two decimals where they say it all: keep-0.80, keep-0.125.
    const bool is_short = std::abs(ratio * 100 - std::round(ratio * 100)) < 1e-9;
    uris.push_back(spec.output_uri + "/keep-" +
                   (is_short ? fmt::format("{:.2f}", ratio) : fmt::format("{}", ratio)));
  }
  return uris;
}

std::vector<std::string> SupportedFamilies() { return KnownFamilies(); }

std::vector<std::string> SupportedMethods() {
  std::vector<std::string> names;
  for (const MethodRow& row : Methods()) names.emplace_back(row.name);
  return names;
}

std::vector<std::string> SupportedAllocations() {
  std::vector<std::string> names;
  for (const Allocation allocation : {Allocation::kUniform, Allocation::kV2, Allocation::kDRank,
                                      Allocation::kRelativeTails, Allocation::kKlProbe}) {
    names.push_back(AllocationName(allocation));
  }
  return names;
}

std::vector<std::string> SupportedEncodings() {
  return {EncodingName(Encoding::kPlain), EncodingName(Encoding::kPivoted)};
}

std::vector<std::string> SupportedOutputFormats() {
  return {OutputFormatName(OutputFormat::kFactored), OutputFormatName(OutputFormat::kDense)};
}

std::vector<std::string> SupportedTasks() {
  std::vector<std::string> names;
  for (const TextTask& task : TextTasks()) names.emplace_back(task.name);
  for (const TaskRow& task : Tasks()) names.emplace_back(task.name);
  return names;
}

}  // namespace svdllm
