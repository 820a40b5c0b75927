// A job of the pipeline from its request to its result, as the service runs it.
#pragma once

#include "pipeline/pipeline.h"

namespace svdllm::testing {

inline absl::StatusOr<CompressPlan> PlanCompress(const CompressSpec& spec,
                                                 const DeviceBudget& budget = {}) {
  ASSIGN_OR_RETURN(const CompressJob job, Resolve(spec));
  return Plan(job, budget);
}
inline absl::StatusOr<EvaluatePlan> PlanEvaluate(const EvaluateSpec& spec,
                                                 const DeviceBudget& budget = {}) {
  ASSIGN_OR_RETURN(const EvaluateJob job, Resolve(spec));
  return Plan(job, budget);
}
inline absl::StatusOr<CompressResult> RunCompress(const CompressSpec& spec, Backend& backend,
                                                  ArtifactStore& store, const RunHooks& hooks) {
  ASSIGN_OR_RETURN(CompressJob job, Resolve(spec));
  return Run(std::move(job), backend, store, hooks);
}
inline absl::StatusOr<EvaluateResult> RunEvaluate(const EvaluateSpec& spec, Backend& backend,
                                                  ArtifactStore& store, const RunHooks& hooks) {
  ASSIGN_OR_RETURN(EvaluateJob job, Resolve(spec));
  return Run(std::move(job), backend, store, hooks);
}

}  // namespace svdllm::testing
