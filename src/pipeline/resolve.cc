#include "pipeline/resolve.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <set>

#include "compress/rank_rules.h"
#include "evaluate/prompts.h"
#include "evaluate/resolve.h"
#include "evaluate/throughput.h"

namespace svdllm {
namespace {

absl::Status CheckSources(const CalibrationSpec& calibration) {
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

// Whether the keep ratios can be met with every matrix at its least rank.
absl::Status CheckLeastRanks(const CompressSpec& spec, const std::vector<LinearLayer>& linears) {
  std::vector<AllocationItem> items;
  for (const LinearLayer& linear : linears) {
    AllocationItem item;
    item.rows = linear.rows;
    item.cols = linear.cols;
    item.spectrum.resize(static_cast<size_t>(std::min(linear.rows, linear.cols)));
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

absl::Status ResolveKeepRatios(std::vector<double>& keep_ratios) {
  if (keep_ratios.empty()) return InvalidField("keep_ratios: at least one is needed");
  for (const double ratio : keep_ratios) {
    if (!(ratio > 0 && ratio <= 1)) {
      return InvalidField("keep_ratios: " + std::to_string(ratio) + " is not in (0, 1]");
    }
  }
  std::sort(keep_ratios.begin(), keep_ratios.end(), std::greater<>());
  if (std::adjacent_find(keep_ratios.begin(), keep_ratios.end()) != keep_ratios.end()) {
    return InvalidField("keep_ratios: a ratio is given twice");
  }
  return absl::OkStatus();
}

absl::Status ResolveCalibration(const ModelConfig& config, CompressSpec& spec) {
  CalibrationSpec& calibration = spec.calibration;
  calibration.needed = ReadsInputs(RowOf(spec.method), RowOf(spec.allocation));
  if (calibration.sources.empty()) {
    if (calibration.needed) {
      return InvalidField("calibration.sources: at least one is needed by the method " +
                          MethodName(spec.method) + " with the allocation " +
                          AllocationName(spec.allocation));
    }
    calibration.samples = 0;
    spec.evaluate_held_out = false;
    ASSIGN_OR_RETURN(calibration.seq_len, ResolveSeqLen(0, config, "calibration.seq_len"));
    calibration.window_start.reset();
    return absl::OkStatus();
  }
  if (calibration.samples < 1) return InvalidField("calibration.samples: must be at least 1");
  if (calibration.first_document < 0) {
    return InvalidField("calibration.first_document: must not be negative");
  }
  RETURN_IF_ERROR(CheckSources(calibration));
  ASSIGN_OR_RETURN(calibration.seq_len,
                   ResolveSeqLen(calibration.seq_len, config, "calibration.seq_len"));
  const bool has_windows =
      std::any_of(calibration.sources.begin(), calibration.sources.end(), [](const auto& source) {
        return !source.model_samples && source.text.packing == Packing::kConcatenated;
      });
  calibration.window_start = ResolveWindowStart(calibration.window_start, has_windows, config);
  const bool samples = std::any_of(calibration.sources.begin(), calibration.sources.end(),
                                   [](const auto& source) { return source.model_samples; });
  if (samples && config.rope.kind == RopeKind::kDynamic &&
      calibration.seq_len > config.max_position_embeddings) {
    return InvalidField(fmt::format(
        "calibration.seq_len: {} tokens of the model's own samples are more than its "
        "max_position_embeddings, {}, beyond which dynamic rotary scaling cannot be cached",
        calibration.seq_len, config.max_position_embeddings));
  }
  return absl::OkStatus();
}

// Names, which figures are told apart by, and the tasks' files. where: in front of every message.
absl::Status CheckNamesAndTasks(const MeasureSpec& measure, const std::string& where,
                                const std::string& reserved) {
  std::set<std::string> names;
  const auto check = [&](const std::string& name, const char* kind) {
    if (name.empty()) return InvalidField(where + kind + " without a name");
    const bool taken = !reserved.empty() && name.rfind(reserved, 0) == 0;
    if (taken || !names.insert(name).second) {
      return InvalidField(where + name + ": the name is another figure's");
    }
    return absl::OkStatus();
  };
  for (const PerplexitySpec& text : measure.texts) {
    RETURN_IF_ERROR(check(text.name, "a text"));
    struct stat info;
    const std::string& path = text.text.path;
    if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
      return MakeError(absl::StatusCode::kNotFound, kDatasetInvalid,
                       text.name + ": " + path + ": no such file");
    }
  }
  for (const TaskSpec& task : measure.tasks) {
    RETURN_IF_ERROR(check(task.name, "a task"));
    RETURN_IF_ERROR(CheckTask(task));
  }
  return absl::OkStatus();
}

absl::Status ResolveMethod(const std::vector<LinearLayer>& linears, const CompressSpec& spec) {
  for (const MethodSetting& setting : MethodSettings()) {
    const double value = spec.*setting.value;
    if (!(value >= 0 && value <= 1)) {
      return InvalidField(std::string(setting.name) + ": must be in [0, 1]");
    }
  }
  if (spec.rank_multiple < 1) return InvalidField("rank_multiple: must be at least 1");
  if (!(spec.min_keep_ratio >= 0 && spec.min_keep_ratio < 1)) {
    return InvalidField("min_keep_ratio: must be at least 0 and below 1");
  }
  if (!RowOf(spec.allocation).has_floor) return absl::OkStatus();
  if (spec.min_keep_ratio > spec.keep_ratios.back()) {
    return InvalidField(fmt::format("min_keep_ratio: {} is above the keep ratio {}",
                                    spec.min_keep_ratio, spec.keep_ratios.back()));
  }
  return CheckLeastRanks(spec, linears);
}

// Both models get the same windows: as long as the shorter of them allows, and begun as the first
// one needs it, which is what may take the other's place.
absl::StatusOr<std::vector<PerplexitySpec>> CommonTexts(std::vector<PerplexitySpec> texts,
                                                        const std::vector<Subject>& models) {
  const std::vector<PerplexitySpec> asked = texts;
  for (size_t i = 0; i < models.size(); ++i) {
    const auto own = ResolveTexts(asked, models[i].checkpoint.config());
    if (!own.ok()) return i == 0 ? own.status() : Annotate(own.status(), "baseline");
    if (i == 0) texts = *own;
    for (size_t t = 0; t < texts.size(); ++t) {
      texts[t].seq_len = std::min(texts[t].seq_len, (*own)[t].seq_len);
    }
  }
  return texts;
}

// Both models get the same prompts: as long as the shorter of them allows.
absl::StatusOr<ThroughputSpec> CommonThroughput(const ThroughputSpec& asked,
                                                const std::vector<Subject>& models) {
  ThroughputSpec throughput = asked;
  // Twice: what suits the one may not suit the other.
  for (int round = 0; round < 2; ++round) {
    const ThroughputSpec before = throughput;
    for (size_t i = 0; i < models.size(); ++i) {
      const auto own = ResolveThroughput(before, models[i].checkpoint.config(), "throughput");
      if (!own.ok()) return i == 0 ? own.status() : Annotate(own.status(), "baseline");
      const int64_t prompt = i == 0 ? own->prompt_tokens : throughput.prompt_tokens;
      throughput = *own;
      throughput.prompt_tokens = std::min(prompt, own->prompt_tokens);
    }
  }
  return throughput;
}

// A hub cache's directory stands for one of its snapshots, later perhaps for another: from here on
// the job, and its reports, name the one that is open.
void NameSnapshot(const Checkpoint& checkpoint, std::string* dir, std::string* uri) {
  const std::string& place = checkpoint.dir();
  if (place.size() <= dir->size() || !place.starts_with(*dir)) return;
  while (uri->ends_with('/')) uri->pop_back();
  uri->append(place.substr(place.find_first_not_of('/', dir->size()) - 1));  // "/snapshots/abc"
  *dir = place;
}

}  // namespace

absl::StatusOr<CompressJob> Resolve(const CompressSpec& spec) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(spec.model_dir));
  std::vector<LinearLayer> linears = LinearLayers(checkpoint);
  CompressJob job{spec, std::move(checkpoint), std::move(linears)};
  NameSnapshot(job.checkpoint, &job.spec.model_dir, &job.spec.model_uri);
  const ModelConfig& config = job.checkpoint.config();
  if (config.is_low_rank()) {
    return MakeError(absl::StatusCode::kInvalidArgument, kUnsupportedArchitecture,
                     "model: " + spec.model_dir + " is compressed already (" + config.model_type +
                         "); compress its dense original instead");
  }
  RETURN_IF_ERROR(ResolveKeepRatios(job.spec.keep_ratios));
  RETURN_IF_ERROR(ResolveCalibration(config, job.spec));
  MeasureSpec& measure = job.spec.measure;
  RETURN_IF_ERROR(CheckNamesAndTasks(measure, "evaluation: ", kHeldOutName));
  ASSIGN_OR_RETURN(measure.texts, ResolveTexts(measure.texts, config, "evaluation: "));
  ASSIGN_OR_RETURN(measure.throughput,
                   ResolveThroughput(measure.throughput, config, "evaluation.throughput"));
  RETURN_IF_ERROR(ResolveMethod(job.linears, job.spec));
  return job;
}

absl::StatusOr<EvaluateJob> Resolve(const EvaluateSpec& spec) {
  EvaluateJob job{spec, {}};
  const auto add = [&job](std::string* uri, std::string* dir) -> absl::Status {
    ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(*dir));
    NameSnapshot(checkpoint, dir, uri);
    job.models.push_back({*uri, std::move(checkpoint), job.spec.measure});
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(add(&job.spec.model_uri, &job.spec.model_dir));
  if (!spec.baseline_dir.empty()) {
    RETURN_IF_ERROR(Annotate(add(&job.spec.baseline_uri, &job.spec.baseline_dir), "baseline"));
  } else if (spec.threshold.any()) {
    return InvalidField("threshold: needs a baseline to compare with");
  }
  ASSIGN_OR_RETURN(const ThroughputSpec throughput,
                   CommonThroughput(spec.measure.throughput, job.models));
  job.spec.measure.throughput = throughput;
  ASSIGN_OR_RETURN(job.spec.measure.texts, CommonTexts(spec.measure.texts, job.models));
  for (Subject& subject : job.models) subject.measure = job.spec.measure;
  RETURN_IF_ERROR(CheckNamesAndTasks(spec.measure, "", ""));
  return job;
}

}  // namespace svdllm
