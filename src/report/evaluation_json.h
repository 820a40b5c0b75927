// What an evaluation publishes: evaluation_report.json, predictions.jsonl and report.html.
#pragma once

#include <string>

#include "evaluate/measure.h"
#include "job/spec.h"

namespace svdllm {

// Whether the model keeps to the threshold beside its baseline; figures with the same name are
// compared. A figure that is not finite does not.
Verdict Judge(const AcceptanceThreshold& threshold, const ModelFigures& model,
              const ModelFigures& baseline);

// A line a question and a model: what it answered, what was right, what it scored.
// model: "model" or "baseline".
std::string PredictionLines(const std::string& model, const std::vector<TaskData>& tasks,
                            const std::vector<std::vector<Answer>>& answers);

// Writes everything and the manifest into dir, and the manifest's digest into result.
absl::Status WriteEvaluation(const EvaluateSpec& spec, const std::string& predictions,
                             const std::string& dir, EvaluateResult& result);

// What an earlier attempt of the job published in local directory dir; NOT_FOUND where it did not.
absl::StatusOr<EvaluateResult> ReadOwnEvaluation(const std::string& dir, const std::string& job_id);

}  // namespace svdllm
