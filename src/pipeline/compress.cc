#include <algorithm>
#include <map>

#include "artifact/writer.h"
#include "base/format.h"
#include "compress/allocate.h"
#include "compress/layers.h"
#include "corpus/calibration.h"
#include "corpus/model_samples.h"
#include "evaluate/compare.h"
#include "evaluate/measure.h"
#include "evaluate/throughput.h"
#include "evaluate/verdict.h"
#include "pipeline/estimate.h"
#include "pipeline/memory_plan.h"
#include "pipeline/pipeline.h"
#include "pipeline/publish.h"
#include "pipeline/resume.h"
#include "storage/staging.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {
namespace {

// One artifact on its way: where it goes, where it is written, and what is known of it.
struct Output {
  std::string staging_dir;
  std::optional<ArtifactWriter> writer;
  ArtifactResult result;  // keep_ratio and uri are known from the beginning
};

// What the texts and the tokenizer make of a job.
struct Inputs {
  Tokenizer tokenizer;
  CalibrationData calibration;
  MeasureJob measure;
};

// Of a report, which has the files' names alone, back to what the request calls them.
void SetUris(const std::vector<CalibrationSource>& sources, std::vector<DataFile>& files) {
  size_t file = 0;
  for (const CalibrationSource& source : sources) {
    if (source.model_samples || file == files.size()) continue;
    files[file++].uri = source.text.uri.empty() ? source.text.path : source.text.uri;
  }
}

// Artifacts that an attempt of the job left whole because it died while it published: they stand.
// Their keep ratios leave the job; what was measured of the dense model goes to result.
std::map<double, ArtifactResult> FindPublished(CompressJob& job, ArtifactStore& store,
                                               CompressResult& result) {
  std::map<double, ArtifactResult> published;
  const std::vector<std::string> uris = OutputUris(job.spec);
  for (size_t i = 0; i < uris.size(); ++i) {
    const absl::StatusOr<std::string> dir = store.Fetch(uris[i], job.spec.work_dir);
    if (!dir.ok()) continue;
    absl::StatusOr<OwnArtifact> own = ReadOwnArtifact(*dir, job.spec.job_id);
    if (!own.ok()) continue;
    own->artifact.uri = uris[i];
    result.before = std::move(own->before);
    result.calibration = std::move(own->calibration);
    SetUris(job.spec.calibration.sources, result.calibration.data);
    published[job.spec.keep_ratios[i]] = std::move(own->artifact);
  }
  return published;
}

// All of the job's artifacts, as far as they are known, in the order of its keep ratios.
std::vector<ArtifactResult> AllArtifacts(std::map<double, ArtifactResult> published,
                                         const std::vector<Output>& outputs) {
  for (const Output& output : outputs) published[output.result.keep_ratio] = output.result;
  std::vector<ArtifactResult> artifacts;
  for (auto it = published.rbegin(); it != published.rend(); ++it) {
    artifacts.push_back(std::move(it->second));
  }
  return artifacts;
}

// A gate that has nothing to look at would let everything pass. What calibration leaves of its
// texts is not known before they are read.
absl::Status CheckThreshold(const AcceptanceThreshold& threshold, const MeasureJob& measure) {
  if (threshold.max_perplexity_increase && measure.texts.empty()) {
    return InvalidField(
        "threshold.max_perplexity_increase: there is no text to compare perplexities on: "
        "calibration leaves nothing of its own");
  }
  if (threshold.max_accuracy_drop && measure.tasks.empty()) {
    return InvalidField("threshold.max_accuracy_drop: there is no task with an accuracy");
  }
  return absl::OkStatus();
}

// Opens a staging directory per keep ratio that is not published yet: an output that cannot be
// written is found out before the work.
absl::StatusOr<std::vector<Output>> Stage(CompressJob& job,
                                          const std::map<double, ArtifactResult>& published,
                                          Staging& staging) {
  std::vector<Output> outputs;
  const std::vector<std::string> uris = OutputUris(job.spec);
  for (size_t i = 0; i < uris.size(); ++i) {
    const double keep_ratio = job.spec.keep_ratios[i];
    if (published.count(keep_ratio) > 0) continue;
    Output& output = outputs.emplace_back();
    output.result.keep_ratio = keep_ratio;
    output.result.uri = uris[i];
    ASSIGN_OR_RETURN(output.staging_dir, staging.Open(uris[i], job.spec.job_id, job.spec.attempt));
  }
  std::erase_if(job.spec.keep_ratios, [&](double ratio) { return published.count(ratio) > 0; });
  return outputs;
}

// Reads the tokenizer and the texts and draws the calibration set; the work that is expected is
// then known.
absl::StatusOr<Inputs> Draw(const CompressJob& job, Backend& backend, Progress& progress,
                            Journal& journal) {
  const auto& [spec, checkpoint, linears] = job;
  progress.Enter("load");
  ASSIGN_OR_RETURN(Tokenizer tokenizer, Tokenizer::Load(checkpoint.dir()));
  const ModelSampler sampler =
      KeptSampler(journal, [&](int64_t count, int64_t length, uint64_t seed) {
        return SampleModel(job.checkpoint, tokenizer, backend, count, length, seed, progress);
      });
  ASSIGN_OR_RETURN(CalibrationData data,
                   DrawCalibration(spec.calibration, spec.evaluate_held_out ? kHeldOutWindows : 0,
                                   tokenizer, checkpoint.config(), sampler));
  ASSIGN_OR_RETURN(MeasureJob measure,
                   LoadMeasureJob(spec.measure, tokenizer, checkpoint.config()));
  measure.texts.insert(measure.texts.begin(), data.held_out.begin(), data.held_out.end());
  RETURN_IF_ERROR(CheckThreshold(spec.threshold, measure));
  RETURN_IF_ERROR(journal.Confirm("tokens to calibrate and measure on",
                                  DigestOfTokens(data.calibration, measure)));
  const auto models = static_cast<double>(1 + spec.keep_ratios.size());
  progress.Expect(SamplingFlops(spec, checkpoint) +
                  CompressFlops(spec, checkpoint, WorkloadOf(data.calibration), {}) +
                  models * MeasureFlops(checkpoint, measure));
  RETURN_IF_ERROR(progress.Step(0, "", "loaded"));
  return Inputs{std::move(tokenizer), std::move(data), std::move(measure)};
}

// Decides the ranks, compresses every linear layer for every output and writes the weights.
absl::Status Factorise(const CompressRun& run, std::vector<Output>& outputs) {
  ASSIGN_OR_RETURN(const std::vector<std::vector<int64_t>> ranks, AllocateRanks(run));
  std::vector<FactorSink> sinks;
  for (size_t i = 0; i < outputs.size(); ++i) {
    ASSIGN_OR_RETURN(
        outputs[i].writer,
        ArtifactWriter::Create(run.checkpoint, run.linears, run.spec, outputs[i].result.keep_ratio,
                               ranks[i], outputs[i].staging_dir));
    sinks.push_back(SinkOf(*outputs[i].writer));
  }
  ASSIGN_OR_RETURN(MatrixReports reports, CompressLayers(run, sinks));
  run.progress.Enter("write");
  for (size_t i = 0; i < outputs.size(); ++i) {
    RETURN_IF_ERROR(outputs[i].writer->FinishWeights());
    RETURN_IF_ERROR(run.progress.Step(0, "", "weights written"));
    const Layout& layout = outputs[i].writer->layout();
    ArtifactResult& result = outputs[i].result;
    result.parameters = layout.parameters;
    result.compressed_parameters = layout.target_parameters;
    result.weight_bytes = layout.weight_bytes;
    result.matrices = std::move(reports[i]);
  }
  return absl::OkStatus();
}

// Of every artifact, opened as a caller would; what it lost, and whether it may lose as much.
absl::Status MeasureOutputs(const CompressSpec& spec, const Inputs& inputs, const Measured& before,
                            Backend& backend, Progress& progress, Journal& journal,
                            std::vector<Output>& outputs) {
  if (inputs.measure.empty()) return absl::OkStatus();
  for (Output& output : outputs) {
    ASSIGN_OR_RETURN(const Checkpoint compressed,
                     Checkpoint::Open(output.staging_dir, /*require_manifest=*/false));
    ASSIGN_OR_RETURN(Measured measured,
                     MeasureKept(compressed, inputs.tokenizer, inputs.measure, backend, progress,
                                 journal, RatioName(output.result.keep_ratio)));
    ArtifactResult& artifact = output.result;
    artifact.comparisons = Compare(before, measured);
    artifact.warnings = DamageWarnings(artifact.comparisons);
    if (spec.threshold.any()) artifact.verdict = Judge(spec.threshold, artifact.comparisons);
    artifact.figures = std::move(measured.figures);
  }
  return absl::OkStatus();
}

// Writes the reports and makes the artifacts visible, all or none. published: those that are.
absl::Status Publish(const CompressJob& job, const std::map<double, ArtifactResult>& published,
                     const RunHooks& hooks, Progress& progress, Staging& staging,
                     std::vector<Output>& outputs, CompressResult& result) {
  progress.Enter("publish");
  result.stages = progress.Stages();
  result.peak_host_bytes = PeakResidentBytes();
  result.peak_device_bytes = progress.PeakDeviceBytes();
  const bool rejected = std::any_of(outputs.begin(), outputs.end(),
                                    [](const Output& output) { return output.result.rejected(); });
  if (rejected && !job.spec.keep_rejected) {
    for (Output& output : outputs) output.result.uri.clear();
    return absl::OkStatus();
  }
  result.artifacts = AllArtifacts(published, outputs);  // each report shows them all
  for (Output& output : outputs) {
    RETURN_IF_ERROR(
        WriteReports(job.checkpoint, job.spec, output.staging_dir, result, output.result));
  }
  RETURN_IF_ERROR(progress.Check());
  if (hooks.begin_publish) RETURN_IF_ERROR(hooks.begin_publish());
  RETURN_IF_ERROR(staging.CommitAll());
  result.stages = progress.Stages();
  return absl::OkStatus();
}

// Everything between the staging directories and the published artifacts.
absl::Status Compress(const CompressJob& job, const std::map<double, ArtifactResult>& published,
                      Backend& backend, const RunHooks& hooks, Staging& staging,
                      std::vector<Output>& outputs, CompressResult& result) {
  const auto& [spec, checkpoint, linears] = job;
  ASSIGN_OR_RETURN(const MemoryPlan memory, PlanMemory(job, BudgetOf(backend)));
  const auto seq_len = static_cast<double>(spec.calibration.seq_len);
  const Workload expected{static_cast<double>(spec.calibration.samples) * seq_len, seq_len / 2};
  Progress progress(hooks,
                    SamplingFlops(spec, checkpoint) + CompressFlops(spec, checkpoint, expected, {}),
                    checkpoint.config().num_layers, &backend);
  ASSIGN_OR_RETURN(Journal journal, OpenJournal(job, backend, hooks));
  ASSIGN_OR_RETURN(const Inputs inputs, Draw(job, backend, progress, journal));
  const CalibrationData& drawn = inputs.calibration;
  result.calibration = {drawn.calibration.count(), drawn.calibration.tokens(), drawn.warnings,
                        drawn.data, drawn.window_start};
  progress.Enter("evaluate");
  // First: a batch that does not fit is found out before the long work.
  ASSIGN_OR_RETURN(result.before.throughputs,
                   MeasureThroughput(checkpoint, inputs.measure.throughput, backend, progress));
  const CompressRun run{
      spec,    checkpoint, linears,          drawn.calibration,
      backend, progress,   memory.placement, journal.keeps() ? &journal : nullptr};
  RETURN_IF_ERROR(Factorise(run, outputs));
  result.resumed_layers = progress.layers_skipped();
  if (result.resumed_layers > 0) result.planned_work = 0;
  progress.Enter("evaluate");
  MeasureJob rest = inputs.measure;
  rest.throughput = {};
  ASSIGN_OR_RETURN(Measured before, MeasureKept(checkpoint, inputs.tokenizer, rest, backend,
                                                progress, journal, "before"));
  before.figures.throughputs = std::move(result.before.throughputs);
  result.before = before.figures;
  RETURN_IF_ERROR(MeasureOutputs(spec, inputs, before, backend, progress, journal, outputs));
  RETURN_IF_ERROR(Publish(job, published, hooks, progress, staging, outputs, result));
  progress.Done();
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CompressResult> Run(CompressJob job, Backend& backend, ArtifactStore& store,
                                   const RunHooks& hooks) {
  CompressResult result;
  result.started = UtcNow();
  result.parameters = job.checkpoint.parameters();
  result.weight_bytes = job.checkpoint.weight_bytes();
  for (const LinearLayer& linear : job.linears) {
    result.target_parameters += linear.rows * linear.cols;
  }
  result.device = backend.Name();
  const std::map<double, ArtifactResult> published = FindPublished(job, store, result);
  Staging staging(store);
  if (published.empty()) result.planned_work = ExpectedFlops(job);
  ASSIGN_OR_RETURN(std::vector<Output> outputs, Stage(job, published, staging));
  if (outputs.empty()) {
    Progress progress(hooks, 0, job.checkpoint.config().num_layers);
    progress.Enter("publish");
    progress.Done();
  } else {
    RETURN_IF_ERROR(Compress(job, published, backend, hooks, staging, outputs, result));
  }
  result.artifacts = AllArtifacts(published, outputs);
  return result;
}

}  // namespace svdllm
