#include "pipeline/plan.h"

#include <algorithm>

#include "artifact/layout.h"
#include "compress/rank_rules.h"
#include "pipeline/check_texts.h"
#include "pipeline/estimate.h"
#include "pipeline/memory_plan.h"
#include "pipeline/pipeline.h"
#include "pipeline/resume.h"

namespace svdllm {
namespace {

absl::StatusOr<ArtifactPlan> PlanArtifact(const CompressJob& job, double keep_ratio,
                                          const std::vector<int64_t>& ranks, int64_t& scratch_bytes,
                                          int64_t& factor_bytes) {
  const StorageChoice choice{job.spec.output_format, job.spec.encoding};
  ASSIGN_OR_RETURN(const Layout layout, LayoutOf(job.checkpoint, job.linears, choice, ranks));
  ArtifactPlan artifact;
  artifact.keep_ratio = keep_ratio;
  artifact.parameters = layout.parameters;
  artifact.weight_bytes = layout.weight_bytes;
  scratch_bytes += layout.stored_bytes + kArtifactSideBytes;
  for (const StoredTensor& tensor : layout.tensors) {
    if (tensor.source.empty()) factor_bytes += tensor.spec.bytes();
  }
  for (size_t i = 0; i < ranks.size(); ++i) {
    const LinearLayer& linear = job.linears[i];
    artifact.matrices.push_back({linear.name, linear.rows, linear.cols, ranks[i]});
  }
  return artifact;
}

template <typename Plan>
void AddMemory(const MemoryPlan& memory, Plan& plan) {
  plan.host = memory.host;
  const std::vector<std::string> warnings = MemoryWarnings(memory.host);
  plan.warnings.insert(plan.warnings.end(), warnings.begin(), warnings.end());
}

std::vector<TextPlan> PlansOf(const std::vector<PerplexitySpec>& texts) {
  std::vector<TextPlan> plans;
  for (const PerplexitySpec& text : texts) plans.push_back({text.seq_len, text.window_start});
  return plans;
}

}  // namespace

absl::StatusOr<CompressPlan> MakePlan(const CompressJob& job) {
  CompressPlan plan;
  plan.calibration = {job.spec.calibration.seq_len, job.spec.calibration.window_start};
  plan.texts = PlansOf(job.spec.measure.texts);
  plan.prompt_tokens = job.spec.measure.throughput.prompt_tokens;
  plan.parameters = job.checkpoint.parameters();
  plan.weight_bytes = job.checkpoint.weight_bytes();
  plan.ranks_are_final = !RowOf(job.spec.allocation).needs_spectra;
  for (const LinearLayer& linear : job.linears) {
    plan.target_parameters += linear.rows * linear.cols;
  }
  const std::vector<std::vector<int64_t>> ranks = UniformRanks(job.spec, job.linears);
  int64_t factor_bytes = 0;
  for (size_t r = 0; r < ranks.size(); ++r) {
    ASSIGN_OR_RETURN(ArtifactPlan artifact, PlanArtifact(job, job.spec.keep_ratios[r], ranks[r],
                                                         plan.scratch_bytes, factor_bytes));
    plan.artifacts.push_back(std::move(artifact));
  }
  plan.scratch_bytes += JournalBytes(job, factor_bytes);
  plan.work = ExpectedFlops(job);
  return plan;
}

absl::StatusOr<CompressPlan> Plan(const CompressJob& job, const DeviceBudget& budget) {
  ASSIGN_OR_RETURN(CompressPlan plan, MakePlan(job));
  RETURN_IF_ERROR(CheckTexts(job, plan));
  ASSIGN_OR_RETURN(const MemoryPlan memory, PlanMemory(job, budget));
  AddMemory(memory, plan);
  if (budget.on_device) plan.peak_device_bytes = memory.peak_bytes;
  return plan;
}

absl::StatusOr<EvaluatePlan> Plan(const EvaluateJob& job, const DeviceBudget& budget) {
  RETURN_IF_ERROR(CheckTexts(job));
  EvaluatePlan plan;
  plan.texts = PlansOf(job.model().measure.texts);
  plan.prompt_tokens = job.model().measure.throughput.prompt_tokens;
  plan.parameters = job.model().checkpoint.parameters();
  plan.weight_bytes = job.model().checkpoint.weight_bytes();
  if (job.baseline() != nullptr) {
    plan.baseline_parameters = job.baseline()->checkpoint.parameters();
    plan.baseline_weight_bytes = job.baseline()->checkpoint.weight_bytes();
  }
  ASSIGN_OR_RETURN(const MemoryPlan memory, PlanMemory(job, budget));
  AddMemory(memory, plan);
  if (budget.on_device) plan.peak_device_bytes = memory.peak_bytes;
  return plan;
}

}  // namespace svdllm
