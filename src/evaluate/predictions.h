// predictions.jsonl: every answer of every model.
#pragma once

#include <string>
#include <vector>

#include "evaluate/measure.h"

namespace svdllm {

// Returns one line per question: what a model answered, what was right, what it scored. `model` is
// "model" or "baseline". answers[1][2] belongs to the third item of tasks[1].
std::string PredictionLines(const std::string& model, const std::vector<TaskData>& tasks,
                            const std::vector<std::vector<Answer>>& answers);

}  // namespace svdllm
