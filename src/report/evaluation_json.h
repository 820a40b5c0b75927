// What an evaluation publishes: evaluation_report.json, predictions.jsonl and report.html.
#pragma once

#include <string>

#include "base/status.h"
#include "job/result.h"
#include "job/spec.h"

namespace svdllm {

// predictions: PredictionLines of all models. Writes everything and the manifest into dir, and the
// manifest's digest into result.
absl::Status WriteEvaluation(const EvaluateSpec& spec, const std::string& predictions,
                             const std::string& dir, EvaluateResult& result);

// What an earlier attempt of the job published in local directory dir; NOT_FOUND where it did not.
absl::StatusOr<EvaluateResult> ReadOwnEvaluation(const std::string& dir, const std::string& job_id);

}  // namespace svdllm
