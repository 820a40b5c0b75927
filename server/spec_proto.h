// Requests as messages, and as what the pipeline takes. A request is resolved once, when it is
// submitted: checked, defaults filled in, URIs in canonical form. What is stored, shown and run is
// the resolved request.
#pragma once

#include <string>

#include "base/status.h"
#include "job/spec.h"
#include "storage/artifact_store.h"
#include "svdllm/v1/compression.pb.h"

namespace svdllm {

inline constexpr int kMaxKeepRatios = 16;
inline constexpr int kMaxTasks = 32;
inline constexpr int kMaxSources = 16;  // of a calibration
inline constexpr int kMaxLabels = 32;
inline constexpr int kMaxLabelBytes = 128;
inline constexpr int kMaxFewshot = 64;
// Resolve in place. All violations are reported at once (status_proto.h), among them what this
// program does not know (known_parts.h) and settings that the method or allocation does not read:
// these are absent from a resolved request. A seq_len of 0 stays 0: what it means depends on the
// model. An output_uri that is empty becomes default_output. ReportEvaluation has tasks only
// afterwards (report_texts.h). Resolving once more changes nothing.
absl::Status ResolveRequest(const ArtifactStore& store, const std::string& default_output,
                            v1::CompressModelRequest& request);
absl::Status ResolveRequest(const ArtifactStore& store, const std::string& default_output,
                            v1::EvaluateRequest& request);

// A resolved request as the pipeline takes it, its inputs fetched: scratch_dir takes what has to be
// copied. Errors name what is missing, with MODEL_NOT_FOUND, CALIBRATION_INVALID or
// DATASET_INVALID; and with INVALID_FIELD what this program does not know: a newer server may have
// stored the request. One that an earlier server has stored means what it meant then: fields that
// did not exist are as the specification has them, settings that the method does not read are
// passed over, texts are tasks.
absl::StatusOr<CompressSpec> ToSpec(const v1::CompressModelRequest& request,
                                    const ArtifactStore& store, const std::string& scratch_dir);
absl::StatusOr<EvaluateSpec> ToSpec(const v1::EvaluateRequest& request, const ArtifactStore& store,
                                    const std::string& scratch_dir);

}  // namespace svdllm
