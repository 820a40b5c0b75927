// Start reading here. A job of either kind is one call, which runs to its end in the calling
// thread:
//
//   CompressModel: load ▸ calibrate ▸ allocate ▸ factorise ▸ write ▸ evaluate ▸ publish
//   Evaluate:      load ▸ evaluate ▸ publish
//
// Nothing is kept between calls. Errors carry a reason from base/status.h and the offending name.
#pragma once

#include "job/spec.h"
#include "linalg/backend.h"
#include "storage/artifact_store.h"

namespace svdllm {

// Checks a request against the model and predicts what it would cost on a worker with such a
// device. Reads headers and configuration only: milliseconds, where memory is counted up to a
// second. DEVICE_OUT_OF_MEMORY or HOST_OUT_OF_MEMORY where it cannot fit. The same checks open
// RunCompress.
absl::StatusOr<CompressPlan> PlanCompress(const CompressSpec& spec,
                                          const DeviceBudget& budget = {});

// Compresses, publishes one artifact a keep ratio and reports. On any error nothing is published.
absl::StatusOr<CompressResult> RunCompress(const CompressSpec& spec, Backend& backend,
                                           ArtifactStore& store, const RunHooks& hooks);

// Where the artifacts go, in the order of spec.keep_ratios: the output itself for one, keep-0.80
// and so on below it for several.
std::vector<std::string> OutputUris(const CompressSpec& spec);

// Checks an evaluation without running it: the models are readable, every text is there and every
// task's files are, with a first question in them that can be asked, and it fits the memory. As
// PlanCompress otherwise.
absl::StatusOr<EvaluatePlan> PlanEvaluate(const EvaluateSpec& spec,
                                          const DeviceBudget& budget = {});

// Measures the model, and its baseline where there is one, and publishes the report where the
// request says where. On any error nothing is published.
absl::StatusOr<EvaluateResult> RunEvaluate(const EvaluateSpec& spec, Backend& backend,
                                           ArtifactStore& store, const RunHooks& hooks);

// What this build knows, for GetServerInfo.
std::vector<std::string> SupportedFamilies();
std::vector<std::string> SupportedMethods();
std::vector<std::string> SupportedAllocations();
std::vector<std::string> SupportedEncodings();
std::vector<std::string> SupportedOutputFormats();
std::vector<std::string> SupportedTasks();

}  // namespace svdllm
