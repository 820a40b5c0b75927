#include "report/evaluation_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "artifact/manifest.h"
#include "base/files.h"
#include "report/figures_json.h"
#include "report/page.h"
#include "tasks/scoring.h"

namespace svdllm {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kReport[] = "evaluation_report.json";
constexpr char kPredictions[] = "predictions.jsonl";
constexpr char kHtml[] = "report.html";

// A threshold of 0.02 allows 0.40 to become 0.38, whose difference is not 0.02 in binary.
constexpr double kRounding = 1e-9;

template <typename Result>
const Result* Find(const std::vector<Result>& results, const std::string& name) {
  const auto found = std::find_if(results.begin(), results.end(),
                                  [&name](const Result& result) { return result.name == name; });
  return found == results.end() ? nullptr : &*found;
}

Json FiguresJson(const ModelFigures& figures) {
  return {{"uri", figures.uri},
          {"parameters", figures.parameters},
          {"weight_bytes", figures.weight_bytes},
          {"perplexities", PerplexitiesJson(figures.perplexities)},
          {"tasks", TasksJson(figures.tasks)},
          {"throughputs", ThroughputsJson(figures.throughputs)}};
}

ModelFigures FiguresFrom(const Json& json) {
  return {json.at("uri"),
          json.at("parameters"),
          json.at("weight_bytes"),
          PerplexitiesFrom(json.at("perplexities")),
          TasksFrom(json.at("tasks")),
          ThroughputsFrom(json.value("throughputs", Json::array()))};
}

Json EvaluationJson(const EvaluateSpec& spec, const EvaluateResult& result) {
  Json report = {{"format_version", 1},
                 {"created_by", std::string("svdllm ") + SVDLLM_VERSION},
                 {"job", spec.job_id},
                 {"model", FiguresJson(result.model)}};
  if (result.baseline) report["baseline"] = FiguresJson(*result.baseline);
  if (result.verdict) {
    Json threshold = Json::object();
    if (spec.threshold.max_accuracy_drop) {
      threshold["max_accuracy_drop"] = *spec.threshold.max_accuracy_drop;
    }
    if (spec.threshold.max_perplexity_increase) {
      threshold["max_perplexity_increase"] = *spec.threshold.max_perplexity_increase;
    }
    report["verdict"] = {{"accepted", result.verdict->accepted},
                         {"threshold", std::move(threshold)},
                         {"regressions", result.verdict->regressions}};
  }
  report["peak_host_bytes"] = result.peak_host_bytes;
  report["peak_device_bytes"] = result.peak_device_bytes;
  report["device"] = result.device;
  return report;
}

}  // namespace

Verdict Judge(const AcceptanceThreshold& threshold, const ModelFigures& model,
              const ModelFigures& baseline) {
  Verdict verdict;
  if (const auto most = threshold.max_accuracy_drop) {
    for (const TaskResult& task : model.tasks) {
      const TaskResult* const before = Find(baseline.tasks, task.name);
      if (before == nullptr || task.metrics.empty() || before->metrics.empty()) continue;
      const double from = before->metrics[0].value, to = task.metrics[0].value;
      if (from - to <= *most + kRounding) continue;
      verdict.regressions.push_back(fmt::format("{}: {} {:.3f} → {:.3f}, more than {:.3g} lower",
                                                task.name, task.metrics[0].name, from, to, *most));
    }
  }
  if (const auto most = threshold.max_perplexity_increase) {
    for (const PerplexityResult& text : model.perplexities) {
      const PerplexityResult* const before = Find(baseline.perplexities, text.name);
      if (before == nullptr) continue;
      const double from = before->perplexity, to = text.perplexity;
      if (to / from - 1 <= *most + kRounding) continue;
      verdict.regressions.push_back(
          fmt::format("{}: perplexity {:.4g} → {:.4g}, more than {:.3g} % "
                      "higher",
                      text.name, from, to, 100 * *most));
    }
  }
  verdict.accepted = verdict.regressions.empty();
  return verdict;
}

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

absl::Status WriteEvaluation(const EvaluateSpec& spec, const std::string& predictions,
                             const std::string& dir, EvaluateResult& result) {
  RETURN_IF_ERROR(
      WriteFileAtomic(dir + "/" + kReport, EvaluationJson(spec, result).dump(2) + "\n"));
  if (!spec.tasks.empty()) RETURN_IF_ERROR(WriteFileAtomic(dir + "/" + kPredictions, predictions));
  RETURN_IF_ERROR(WriteFileAtomic(dir + "/" + kHtml, EvaluationHtml(spec, result)));
  ASSIGN_OR_RETURN(result.manifest_sha256, WriteManifest(dir, spec.job_id));
  return absl::OkStatus();
}

absl::StatusOr<EvaluateResult> ReadOwnEvaluation(const std::string& dir,
                                                 const std::string& job_id) {
  EvaluateResult result;
  ASSIGN_OR_RETURN(result.manifest_sha256, OwnManifest(dir, job_id));
  ASSIGN_OR_RETURN(const std::string text, ReadFile(dir + "/" + kReport, int64_t{1} << 30));
  try {
    const Json report = Json::parse(text);
    result.model = FiguresFrom(report.at("model"));
    if (report.contains("baseline")) result.baseline = FiguresFrom(report.at("baseline"));
    if (report.contains("verdict")) {
      result.verdict = {report.at("verdict").at("accepted"),
                        report.at("verdict").at("regressions").get<std::vector<std::string>>()};
    }
    result.peak_host_bytes = report.at("peak_host_bytes");
    result.peak_device_bytes = report.value("peak_device_bytes", int64_t{0});
    result.device = report.at("device");
    return result;
  } catch (const nlohmann::json::exception& error) {
    return MakeError(absl::StatusCode::kDataLoss, kModelCorrupt,
                     std::string("evaluation_report.json: ") + error.what());
  }
}

}  // namespace svdllm
