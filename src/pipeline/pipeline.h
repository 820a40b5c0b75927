// Start reading here. A job of either kind is three calls: Resolve checks the request against its
// model and opens it, Plan predicts what the job takes, Run does it to the end in the calling
// thread:
//
//   CompressModel: load ▸ calibrate ▸ allocate ▸ factorise ▸ write ▸ evaluate ▸ publish
//   Evaluate:      load ▸ evaluate ▸ publish
//
//   ASSIGN_OR_RETURN(CompressJob job, Resolve(spec));               // pipeline/resolve.h
//   ASSIGN_OR_RETURN(CompressPlan plan, Plan(job, BudgetOf(*backend)));
//   ASSIGN_OR_RETURN(CompressResult result, Run(std::move(job), *backend, store, hooks));
//
// Nothing is kept between calls. Errors carry a reason from base/status.h and the offending name.
#pragma once

#include "job/plan.h"
#include "job/progress.h"
#include "job/result.h"
#include "linalg/backend.h"
#include "pipeline/resolve.h"
#include "storage/artifact_store.h"

namespace svdllm {

// Says what a job would cost on a worker with such a device. It reads headers, configuration,
// tokenizer and the beginnings of texts (check_texts.h), which takes a second or so. A job that
// cannot fit is DEVICE_OUT_OF_MEMORY or HOST_OUT_OF_MEMORY; one whose texts or tokenizer cannot be
// read ends as its run would.
absl::StatusOr<CompressPlan> Plan(const CompressJob& job, const DeviceBudget& budget = {});
absl::StatusOr<EvaluatePlan> Plan(const EvaluateJob& job, const DeviceBudget& budget = {});

// What a backend leaves for a job to use.
DeviceBudget BudgetOf(const Backend& backend);

// Compresses, publishes one artifact per keep ratio and reports. On any error nothing is published;
// nor is where an artifact loses more than the threshold allows, unless rejected ones are to be
// kept: then the result has figures and verdicts, but no URIs.
absl::StatusOr<CompressResult> Run(CompressJob job, Backend& backend, ArtifactStore& store,
                                   const RunHooks& hooks);

// Returns REGRESSED where an artifact loses more than the threshold allows: which figure is worst,
// and whether anything was published.
absl::Status CheckVerdicts(const CompressResult& result);

// Measures the model, and its baseline where there is one, and publishes the report where the
// request says where. On any error nothing is published.
absl::StatusOr<EvaluateResult> Run(EvaluateJob job, Backend& backend, ArtifactStore& store,
                                   const RunHooks& hooks);

}  // namespace svdllm
