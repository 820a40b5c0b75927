#include "report/evaluation_json.h"

#include <nlohmann/json.hpp>

#include "artifact/manifest.h"
#include "base/files.h"
#include "base/json.h"
#include "report/figures_json.h"
#include "report/page.h"

namespace svdllm {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kReport[] = "evaluation_report.json";
constexpr char kPredictions[] = "predictions.jsonl";
constexpr char kHtml[] = "report.html";

Json ModelJson(const ModelResult& model) {
  Json json = {
      {"uri", model.uri}, {"parameters", model.parameters}, {"weight_bytes", model.weight_bytes}};
  json.update(FiguresJson(model.figures));
  return json;
}

ModelResult ModelFrom(const Json& json) {
  return {json.at("uri"), json.at("parameters"), json.at("weight_bytes"), FiguresFrom(json)};
}

Json EvaluationJson(const EvaluateSpec& spec, const EvaluateResult& result) {
  Json report = {{"format_version", 1},
                 {"created_by", std::string("svdllm ") + SVDLLM_VERSION},
                 {"job", spec.job_id},
                 {"started", result.started},
                 {"model", ModelJson(result.model)}};
  if (result.baseline) report["baseline"] = ModelJson(*result.baseline);
  if (result.verdict) report["verdict"] = VerdictJson(*result.verdict, spec.threshold);
  if (result.baseline) report["comparisons"] = ComparisonsJson(result.comparisons);
  report["warnings"] = result.warnings;
  report["measure"] = MeasureJson(spec.measure);
  report["peak_host_bytes"] = result.peak_host_bytes;
  report["peak_device_bytes"] = result.peak_device_bytes;
  report["device"] = result.device;
  return report;
}

}  // namespace

absl::Status WriteEvaluation(const EvaluateSpec& spec, const std::string& predictions,
                             const std::string& dir, EvaluateResult& result) {
  RETURN_IF_ERROR(WriteFileAtomic(dir + "/" + kReport, ToText(EvaluationJson(spec, result))));
  if (!spec.measure.tasks.empty()) {
    RETURN_IF_ERROR(WriteFileAtomic(dir + "/" + kPredictions, predictions));
  }
  RETURN_IF_ERROR(WriteFileAtomic(dir + "/" + kHtml, EvaluationHtml(spec, result)));
  ASSIGN_OR_RETURN(result.manifest_sha256, WriteManifest(dir, spec.job_id));
  return absl::OkStatus();
}

absl::StatusOr<EvaluateResult> ReadOwnEvaluation(const std::string& dir,
                                                 const std::string& job_id) {
  EvaluateResult result;
  ASSIGN_OR_RETURN(result.manifest_sha256, OwnManifest(dir, job_id));
  ASSIGN_OR_RETURN(const std::string text, ReadFile(dir + "/" + kReport, int64_t{1} << 30));
  const absl::StatusOr<nlohmann::json> parsed = ParseJson(text);
  try {
    const Json report = parsed.ok() ? Json(*parsed) : Json();
    result.model = ModelFrom(report.at("model"));
    if (report.contains("baseline")) result.baseline = ModelFrom(report.at("baseline"));
    if (report.contains("verdict")) result.verdict = VerdictFrom(report.at("verdict"));
    result.comparisons = ComparisonsFrom(report.value("comparisons", Json::array()));
    result.warnings = report.value("warnings", std::vector<std::string>());
    result.started = report.value("started", "");
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
