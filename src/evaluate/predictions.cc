#include "evaluate/predictions.h"

#include <nlohmann/json.hpp>

#include "tasks/scoring.h"

namespace svdllm {

using Json = nlohmann::ordered_json;

std::string PredictionLines(const std::string& model, const std::vector<TaskData>& tasks,
                            const std::vector<std::vector<Answer>>& answers) {
  std::string lines;
  for (size_t t = 0; t < tasks.size(); ++t) {
    const TaskData& data = tasks[t];
    for (size_t i = 0; i < data.items.size(); ++i) {
      const Answer& answer = answers[t][i];
      const TaskItem& item = data.items[i];
      Json line = {{"model", model}, {"task", data.spec.name}, {"index", i}};
      if (data.task->kind == TaskKind::kGeneration) {
        line["text"] = answer.text;
        line["references"] = item.references;
      } else {
        line["prediction"] = Predict(item, answer.log_likelihoods, false);
        line["gold"] = item.gold;
        line["log_likelihoods"] = answer.log_likelihoods;
      }
      for (size_t m = 0; m < answer.scores.size(); ++m) {
        line["scores"][std::string(data.task->metrics[m])] = answer.scores[m];
      }
      lines += line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    }
  }
  return lines;
}

}  // namespace svdllm
