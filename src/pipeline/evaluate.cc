#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "evaluate/measure.h"
#include "pipeline/memory_plan.h"
#include "pipeline/pipeline.h"
#include "pipeline/plan.h"
#include "report/evaluation_json.h"
#include "storage/staging.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {
namespace {

absl::Status InvalidField(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, kInvalidField, message);
}

// A model with what it is asked.
struct Subject {
  Checkpoint checkpoint;
  Tokenizer tokenizer;
  Measurements what;
};

absl::StatusOr<Subject> Open(const EvaluateSpec& spec, const ThroughputSpec& throughput,
                             const std::string& dir) {
  ASSIGN_OR_RETURN(Checkpoint checkpoint, Checkpoint::Open(dir));
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load(dir));
  ASSIGN_OR_RETURN(const std::vector<PerplexitySpec> texts,
                   ResolveSeqLens(spec.perplexities, checkpoint.config()));
  ASSIGN_OR_RETURN(Measurements what,
                   LoadMeasurements(texts, spec.tasks, tokenizer, checkpoint.config()));
  what.throughput = throughput;
  return Subject{std::move(checkpoint), std::move(tokenizer), std::move(what)};
}

// Its figures; its answers are added to predictions.
absl::StatusOr<ModelFigures> Run(const Subject& subject, const std::string& uri,
                                 const std::string& name, Backend& backend, RunLog& log,
                                 std::string& predictions) {
  ASSIGN_OR_RETURN(Figures figures,
                   Measure(subject.checkpoint, subject.tokenizer, subject.what, backend, log));
  predictions += PredictionLines(name, subject.what.tasks, figures.answers);
  return ModelFigures{uri,
                      subject.checkpoint.parameters(),
                      subject.checkpoint.weight_bytes(),
                      std::move(figures.perplexities),
                      std::move(figures.tasks),
                      std::move(figures.throughputs)};
}

absl::Status CheckModel(const EvaluateSpec& spec, const std::string& dir, int64_t* parameters,
                        int64_t* weight_bytes) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(dir));
  *parameters = checkpoint.parameters();
  *weight_bytes = checkpoint.weight_bytes();
  return ResolveSeqLens(spec.perplexities, checkpoint.config()).status();
}

// Both models get the same prompts: as long as the shorter of them allows.
absl::StatusOr<ThroughputSpec> CommonThroughput(const EvaluateSpec& spec) {
  ThroughputSpec throughput = spec.throughput;
  std::vector<ModelConfig> configs;  // the model's, the baseline's
  for (const std::string& dir : {spec.model_dir, spec.baseline_dir}) {
    if (dir.empty()) continue;
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(dir));
    configs.push_back(checkpoint.config());
  }
  // Twice: what suits the one may not suit the other.
  for (int round = 0; round < 2; ++round) {
    const ThroughputSpec asked = throughput;
    for (size_t i = 0; i < configs.size(); ++i) {
      const auto own = ResolveThroughput(asked, configs[i], "throughput");
      if (!own.ok()) return i == 0 ? own.status() : Annotate(own.status(), "baseline");
      const int64_t prompt = i == 0 ? own->prompt_tokens : throughput.prompt_tokens;
      throughput = *own;
      throughput.prompt_tokens = std::min(prompt, own->prompt_tokens);
    }
  }
  return throughput;
}

}  // namespace

absl::StatusOr<EvaluatePlan> PlanEvaluate(const EvaluateSpec& spec, const DeviceBudget& budget) {
  EvaluatePlan plan;
  RETURN_IF_ERROR(CheckModel(spec, spec.model_dir, &plan.parameters, &plan.weight_bytes));
  if (!spec.baseline_dir.empty()) {
    RETURN_IF_ERROR(Annotate(
        CheckModel(spec, spec.baseline_dir, &plan.baseline_parameters, &plan.baseline_weight_bytes),
        "baseline"));
  } else if (spec.threshold.any()) {
    return InvalidField("threshold: needs a baseline to compare with");
  }
  ASSIGN_OR_RETURN(const ThroughputSpec throughput, CommonThroughput(spec));
  std::set<std::string> names;
  for (const PerplexitySpec& text : spec.perplexities) {
    if (!names.insert(text.name).second) {
      return InvalidField(text.name + ": the name is another figure's");
    }
    struct stat info;
    const std::string& path = text.text.path;
    if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
      return MakeError(absl::StatusCode::kNotFound, kDatasetInvalid,
                       text.name + ": " + path + ": no such file");
    }
  }
  for (const TaskSpec& task : spec.tasks) {
    if (!names.insert(task.name).second) {
      return InvalidField(task.name + ": the name is another figure's");
    }
    RETURN_IF_ERROR(CheckTask(task));
  }
  ASSIGN_OR_RETURN(const int64_t peak, PlanMemory(spec, throughput, budget));
  plan.peak_host_bytes =
      HostBytes(std::max(plan.weight_bytes, plan.baseline_weight_bytes), budget.on_device);
  (budget.on_device ? plan.peak_device_bytes : plan.peak_host_bytes) += peak;
  return plan;
}

absl::StatusOr<EvaluateResult> RunEvaluate(const EvaluateSpec& spec, Backend& backend,
                                           ArtifactStore& store, const RunHooks& hooks) {
  RETURN_IF_ERROR(PlanEvaluate(spec, BudgetOf(backend)).status());
  Staging staging(store);
  std::string dir;
  if (!spec.output_uri.empty()) {
    // An attempt that died while it published left a report that is whole: it stands.
    const absl::StatusOr<std::string> published = store.Fetch(spec.output_uri, spec.work_dir);
    if (published.ok()) {
      absl::StatusOr<EvaluateResult> own = ReadOwnEvaluation(*published, spec.job_id);
      if (own.ok()) {
        own->report_uri = spec.output_uri;
        return own;
      }
    }
    // Staged first: an output that cannot be written is found out before the work.
    ASSIGN_OR_RETURN(dir, staging.Open(spec.output_uri, spec.job_id, spec.attempt));
  }
  ASSIGN_OR_RETURN(const ThroughputSpec throughput, CommonThroughput(spec));
  ASSIGN_OR_RETURN(const Subject model, Open(spec, throughput, spec.model_dir));
  std::optional<Subject> baseline;
  if (!spec.baseline_dir.empty()) {
    ASSIGN_OR_RETURN(baseline, Open(spec, throughput, spec.baseline_dir));
  }
  double work = MeasureFlops(model.checkpoint, model.what);
  if (baseline) work += MeasureFlops(baseline->checkpoint, baseline->what);
  RunLog log(hooks, work, model.checkpoint.config().num_layers, &backend);
  log.Enter("evaluate");

  EvaluateResult result;
  std::string predictions;
  if (baseline) {
    ASSIGN_OR_RETURN(result.baseline,
                     Run(*baseline, spec.baseline_uri, "baseline", backend, log, predictions));
  }
  ASSIGN_OR_RETURN(result.model, Run(model, spec.model_uri, "model", backend, log, predictions));
  if (spec.threshold.any()) result.verdict = Judge(spec.threshold, result.model, *result.baseline);
  result.peak_host_bytes = PeakResidentBytes();
  result.peak_device_bytes = log.PeakDeviceBytes();
  result.device = backend.Name();
  if (!dir.empty()) {
    log.Enter("publish");
    RETURN_IF_ERROR(WriteEvaluation(spec, predictions, dir, result));
    RETURN_IF_ERROR(log.Check());
    if (hooks.begin_publish) RETURN_IF_ERROR(hooks.begin_publish());
    RETURN_IF_ERROR(staging.CommitAll());
    result.report_uri = spec.output_uri;
  }
  return result;
}

}  // namespace svdllm
