#include "base/format.h"
#include "evaluate/compare.h"
#include "evaluate/measure.h"
#include "evaluate/predictions.h"
#include "evaluate/verdict.h"
#include "pipeline/memory_plan.h"
#include "pipeline/pipeline.h"
#include "pipeline/resume.h"
#include "report/evaluation_json.h"
#include "storage/staging.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {
namespace {

// A model with its texts and questions read and encoded.
struct Prepared {
  const Subject* subject;
  Tokenizer tokenizer;
  MeasureJob measure;
};

absl::StatusOr<std::vector<Prepared>> Prepare(const EvaluateJob& job) {
  std::vector<Prepared> prepared;
  for (const Subject& subject : job.models) {
    ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load(subject.checkpoint.dir()));
    ASSIGN_OR_RETURN(MeasureJob measure,
                     LoadMeasureJob(subject.measure, tokenizer, subject.checkpoint.config()));
    prepared.push_back({&subject, std::move(tokenizer), std::move(measure)});
  }
  return prepared;
}

// What a model's answers were is added to predictions under this name.
absl::StatusOr<Measured> MeasureOne(const Prepared& prepared, const std::string& name,
                                    Backend& backend, Progress& progress, Journal& journal,
                                    std::string& predictions) {
  ASSIGN_OR_RETURN(Measured measured,
                   MeasureKept(prepared.subject->checkpoint, prepared.tokenizer, prepared.measure,
                               backend, progress, journal, name));
  predictions += PredictionLines(name, prepared.measure.tasks, measured.answers);
  return measured;
}

ModelResult ResultOf(const Subject& subject, Measured measured) {
  return {subject.uri, subject.checkpoint.parameters(), subject.checkpoint.weight_bytes(),
          std::move(measured.figures)};
}

// Everything that is measured of the job's models, and what it says.
absl::Status MeasureAll(const EvaluateJob& job, const std::vector<Prepared>& models,
                        Backend& backend, Progress& progress, Journal& journal,
                        std::string& predictions, EvaluateResult& result) {
  Measured baseline;
  if (job.baseline() != nullptr) {
    ASSIGN_OR_RETURN(baseline,
                     MeasureOne(models[1], "baseline", backend, progress, journal, predictions));
  }
  ASSIGN_OR_RETURN(Measured model,
                   MeasureOne(models[0], "model", backend, progress, journal, predictions));
  if (job.baseline() != nullptr) {
    result.comparisons = Compare(baseline, model);
    result.warnings = DamageWarnings(result.comparisons);
    if (job.spec.threshold.any()) result.verdict = Judge(job.spec.threshold, result.comparisons);
    result.baseline = ResultOf(*job.baseline(), std::move(baseline));
  }
  result.model = ResultOf(job.model(), std::move(model));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<EvaluateResult> Run(EvaluateJob job, Backend& backend, ArtifactStore& store,
                                   const RunHooks& hooks) {
  const EvaluateSpec& spec = job.spec;
  const std::string started = UtcNow();
  RETURN_IF_ERROR(PlanMemory(job, BudgetOf(backend)).status());  // it must fit
  Staging staging(store);
  std::string dir;
  if (!spec.output_uri.empty()) {
    // An attempt that died while it published left a report that is whole: it stands.
    const absl::StatusOr<std::string> published = store.Fetch(spec.output_uri, spec.work_dir);
    if (published.ok()) {
      absl::StatusOr<EvaluateResult> own = ReadOwnEvaluation(*published, spec.job_id);
      if (own.ok()) {
        own->report_uri = spec.output_uri;
        Progress progress(hooks, 0, job.model().checkpoint.config().num_layers);
        progress.Enter("publish");
        progress.Done();
        return own;
      }
    }
    // Staged first: an output that cannot be written is found out before the work.
    ASSIGN_OR_RETURN(dir, staging.Open(spec.output_uri, spec.job_id, spec.attempt));
  }
  ASSIGN_OR_RETURN(const std::vector<Prepared> models, Prepare(job));
  double work = 0;
  for (const Prepared& model : models) {
    work += MeasureFlops(model.subject->checkpoint, model.measure);
  }
  Progress progress(hooks, work, job.model().checkpoint.config().num_layers, &backend);
  progress.Enter("evaluate");
  ASSIGN_OR_RETURN(Journal journal, OpenJournal(job, backend, hooks));

  EvaluateResult result;
  std::string predictions;
  result.started = started;
  RETURN_IF_ERROR(MeasureAll(job, models, backend, progress, journal, predictions, result));
  result.peak_host_bytes = PeakResidentBytes();
  result.peak_device_bytes = progress.PeakDeviceBytes();
  result.device = backend.Name();
  if (!dir.empty()) {
    progress.Enter("publish");
    RETURN_IF_ERROR(WriteEvaluation(spec, predictions, dir, result));
    RETURN_IF_ERROR(progress.Check());
    if (hooks.begin_publish) RETURN_IF_ERROR(hooks.begin_publish());
    RETURN_IF_ERROR(staging.CommitAll());
    result.report_uri = spec.output_uri;
  }
  progress.Done();
  return result;
}

}  // namespace svdllm
