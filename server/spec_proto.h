// Requests as messages, and as what the pipeline takes. A request is resolved once, when it is
// submitted: it is checked, defaults are filled in, and URIs get their canonical form. The resolved
// request is what is stored, shown and run.
#pragma once

#include <string>

#include "base/status.h"
#include "job/spec.h"
#include "storage/artifact_store.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {

inline constexpr int kMaxKeepRatios = 16;
inline constexpr int kMaxTasks = 16;
inline constexpr int kMaxTexts = 16;  // of a calibration; of a report's evaluation
inline constexpr int kMaxLabels = 32;
inline constexpr int kMaxLabelBytes = 128;
inline constexpr int kMaxFewshot = 64;
// The name of the figure of ReportEvaluation.text.
inline constexpr char kTextName[] = "perplexity";

// Resolves a request in place. All violations are reported at once (status_proto.h). A seq_len of 0
// stays 0, because what it means depends on the model. An empty output_uri becomes default_output.
absl::Status ResolveRequest(const ArtifactStore& store, const std::string& default_output,
                            v1::CompressModelRequest& request);
absl::Status ResolveRequest(const ArtifactStore& store, const std::string& default_output,
                            v1::EvaluateRequest& request);

// Turns a resolved request into what the pipeline takes, and fetches its inputs. scratch_dir takes
// what has to be copied. Errors name what is missing, with MODEL_NOT_FOUND, CALIBRATION_INVALID or
// DATASET_INVALID.
absl::StatusOr<CompressSpec> ToSpec(const v1::CompressModelRequest& request,
                                    const ArtifactStore& store, const std::string& scratch_dir);
absl::StatusOr<EvaluateSpec> ToSpec(const v1::EvaluateRequest& request, const ArtifactStore& store,
                                    const std::string& scratch_dir);

}  // namespace svdllm
