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
inline constexpr int kMaxTasks = 32;
inline constexpr int kMaxSources = 16;  // of a calibration
inline constexpr int kMaxLabels = 32;
inline constexpr int kMaxLabelBytes = 128;
inline constexpr int kMaxFewshot = 64;

// Resolves a request in place. All violations are reported at once (status_proto.h). Among them are
// what this program does not know (known_parts.h), and settings that the method or allocation does
// not read, which are absent from a resolved request. A seq_len of 0 stays 0, because what it means
// depends on the model. An empty output_uri becomes default_output. A ReportEvaluation has only
// tasks afterwards (report_texts.h). To resolve a request once more changes nothing.
absl::Status ResolveRequest(const ArtifactStore& store, const std::string& default_output,
                            v1::CompressModelRequest& request);
absl::Status ResolveRequest(const ArtifactStore& store, const std::string& default_output,
                            v1::EvaluateRequest& request);

// Turns a resolved request into what the pipeline takes, and fetches its inputs. scratch_dir takes
// what has to be copied. Errors name what is missing, with MODEL_NOT_FOUND, CALIBRATION_INVALID or
// DATASET_INVALID. Errors with INVALID_FIELD name what this program does not know: a newer server
// may have stored the request. A request that an earlier server has stored means what it meant
// then: fields that did not exist are as in a default specification, settings that the method does
// not read are passed over, and texts are tasks.
absl::StatusOr<CompressSpec> ToSpec(const v1::CompressModelRequest& request,
                                    const ArtifactStore& store, const std::string& scratch_dir);
absl::StatusOr<EvaluateSpec> ToSpec(const v1::EvaluateRequest& request, const ArtifactStore& store,
                                    const std::string& scratch_dir);

}  // namespace svdllm
