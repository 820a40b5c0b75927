#include <algorithm>
#include <map>

#include "compress/allocate.h"
#include "compress/layers.h"
#include "corpus/model_samples.h"
#include "evaluate/measure.h"
#include "evaluate/throughput.h"
#include "pipeline/estimate.h"
#include "pipeline/memory_plan.h"
#include "pipeline/pipeline.h"
#include "pipeline/plan.h"
#include "pipeline/publish.h"
#include "storage/staging.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {

absl::StatusOr<CompressResult> RunCompress(const CompressSpec& request, Backend& backend,
                                           ArtifactStore& store, const RunHooks& hooks) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(request.model_dir));
  ASSIGN_OR_RETURN(CompressSpec spec, ResolveCompress(request, checkpoint));
  const std::vector<Target> targets = Targets(checkpoint);
  const CompressPlan plan = MakePlan(spec, checkpoint);
  CompressResult result;
  result.parameters = plan.parameters;
  result.target_parameters = plan.target_parameters;
  result.weight_bytes = plan.weight_bytes;
  result.device = backend.Name();

  // An attempt that died while it published left artifacts that are whole: they stand.
  std::map<double, ArtifactResult> published;
  std::map<double, std::string> uris;
  const std::vector<std::string> all_uris = OutputUris(spec);
  for (size_t i = 0; i < spec.keep_ratios.size(); ++i) {
    const double keep_ratio = spec.keep_ratios[i];
    uris[keep_ratio] = all_uris[i];
    const absl::StatusOr<std::string> dir = store.Fetch(uris[keep_ratio], spec.work_dir);
    if (!dir.ok()) continue;
    absl::StatusOr<OwnArtifact> own = ReadOwnArtifact(*dir, spec.job_id);
    if (!own.ok()) continue;
    own->artifact.uri = uris[keep_ratio];
    result.perplexities = own->before;
    result.tasks = own->tasks_before;
    result.throughputs = own->throughputs_before;
    published[keep_ratio] = std::move(own->artifact);
  }
  const std::vector<double> all_ratios = spec.keep_ratios;
  std::erase_if(spec.keep_ratios, [&](double ratio) { return published.count(ratio) > 0; });

  if (!spec.keep_ratios.empty()) {
    MemoryPlan memory;
    const DeviceBudget budget = BudgetOf(backend);
    if (budget.on_device || budget.memory_bytes > 0) {
      ASSIGN_OR_RETURN(memory, PlanMemory(spec, budget));
    }
    // Staged first: an output that cannot be written is found out before the work.
    Staging staging(store);
    std::vector<std::string> dirs;
    for (const double keep_ratio : spec.keep_ratios) {
      ASSIGN_OR_RETURN(std::string dir, staging.Open(uris[keep_ratio], spec.job_id, spec.attempt));
      dirs.push_back(std::move(dir));
    }
    const double sampling = SamplingFlops(spec, checkpoint);
    const auto seq_len = static_cast<double>(spec.calibration.seq_len);
    const Workload expected{static_cast<double>(spec.calibration.samples) * seq_len, seq_len / 2};
    RunLog log(hooks, sampling + CompressFlops(spec, checkpoint, expected, {}),
               checkpoint.config().num_layers, &backend);
    log.Enter("load");
    ASSIGN_OR_RETURN(const Tokenizer tokenizer, Tokenizer::Load(spec.model_dir));
    const auto sampler = [&](int64_t count, int64_t length, uint64_t seed) {
      return SampleModel(checkpoint, tokenizer, backend, count, length, seed, log);
    };
    ASSIGN_OR_RETURN(CalibrationData data,
                     DrawCalibration(spec.calibration, spec.evaluate_held_out ? kHeldOutWindows : 0,
                                     tokenizer, sampler));
    ASSIGN_OR_RETURN(Measurements what, LoadMeasurements(spec.evaluations, spec.tasks, tokenizer,
                                                         checkpoint.config()));
    what.throughput = spec.throughput;
    what.texts.insert(what.texts.begin(), data.held_out.begin(), data.held_out.end());
    const auto models = static_cast<double>(1 + spec.keep_ratios.size());
    log.Expect(sampling + CompressFlops(spec, checkpoint, WorkloadOf(data.calibration), {}) +
               models * MeasureFlops(checkpoint, what));
    RETURN_IF_ERROR(log.Step(0, "", "loaded"));
    const CompressContext context{spec,    checkpoint, targets,         data.calibration,
                                  backend, log,        memory.placement};
    log.Enter("evaluate");
    // First: a batch that does not fit is found out before the long work.
    ASSIGN_OR_RETURN(result.throughputs,
                     MeasureThroughput(checkpoint, what.throughput, backend, log));
    ASSIGN_OR_RETURN(const std::vector<std::vector<int64_t>> ranks, AllocateRanks(context));
    std::vector<ArtifactWriter> writers;
    for (size_t i = 0; i < dirs.size(); ++i) {
      ASSIGN_OR_RETURN(ArtifactWriter writer,
                       ArtifactWriter::Create(checkpoint, targets, spec, spec.keep_ratios[i],
                                              ranks[i], dirs[i]));
      writers.push_back(std::move(writer));
    }
    ASSIGN_OR_RETURN(std::vector<std::vector<MatrixReport>> reports,
                     CompressBlocks(context, writers));

    log.Enter("write");
    for (ArtifactWriter& writer : writers) {
      RETURN_IF_ERROR(writer.FinishWeights());
      RETURN_IF_ERROR(log.Step(0, "", "weights written"));
    }
    log.Enter("evaluate");
    Measurements rest = what;
    rest.throughput = {};
    ASSIGN_OR_RETURN(Figures before, Measure(checkpoint, tokenizer, rest, backend, log));
    result.perplexities = std::move(before.perplexities);
    result.tasks = std::move(before.tasks);
    std::vector<ArtifactResult> artifacts;
    for (size_t i = 0; i < writers.size(); ++i) {
      ArtifactResult artifact;
      artifact.keep_ratio = spec.keep_ratios[i];
      artifact.uri = uris[artifact.keep_ratio];
      artifact.parameters = writers[i].parameters();
      artifact.compressed_parameters = writers[i].target_parameters();
      artifact.weight_bytes = writers[i].weight_bytes();
      artifact.matrices = std::move(reports[i]);
      if (!what.empty()) {
        ASSIGN_OR_RETURN(const Checkpoint compressed,
                         Checkpoint::Open(writers[i].dir(), /*require_manifest=*/false));
        ASSIGN_OR_RETURN(Figures after, Measure(compressed, tokenizer, what, backend, log));
        artifact.perplexities = std::move(after.perplexities);
        artifact.tasks = std::move(after.tasks);
        artifact.throughputs = std::move(after.throughputs);
      }
      artifacts.push_back(std::move(artifact));
    }
    log.Enter("publish");
    result.stages = log.Stages();
    result.peak_host_bytes = PeakResidentBytes();
    result.peak_device_bytes = log.PeakDeviceBytes();
    for (size_t i = 0; i < writers.size(); ++i) {
      RETURN_IF_ERROR(WriteReports(checkpoint, spec, writers[i].dir(), result, artifacts[i]));
      published[artifacts[i].keep_ratio] = std::move(artifacts[i]);
    }
    RETURN_IF_ERROR(log.Check());
    if (hooks.begin_publish) RETURN_IF_ERROR(hooks.begin_publish());
    RETURN_IF_ERROR(staging.CommitAll());
    result.stages = log.Stages();
  }
  for (const double keep_ratio : all_ratios) {
    result.artifacts.push_back(std::move(published[keep_ratio]));
  }
  return result;
}

}  // namespace svdllm
