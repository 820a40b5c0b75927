#include "report/compression_json.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "report/figures_json.h"

namespace svdllm {
namespace {

using Json = nlohmann::ordered_json;

// To four digits: a report that people read is not a store of spectra.
Json SpectrumJson(const std::vector<float>& spectrum) {
  Json list = Json::array();
  for (const float x : spectrum) list.push_back(std::round(static_cast<double>(x) * 1e4) / 1e4);
  return list;
}

// files: of the texts, in the sources' order.
Json SourcesJson(const std::vector<CalibrationSource>& sources,
                 const std::vector<DataFile>& files) {
  Json list = Json::array();
  size_t file = 0;
  for (const CalibrationSource& source : sources) {
    Json entry = {{"weight", source.weight}};
    if (source.model_samples) {
      entry["model_samples"] = true;
    } else {
      entry["text"] = std::filesystem::path(source.text.path).filename().string();
      entry["packing"] = PackingName(source.text.packing);
      if (file < files.size()) {
        entry["sha256"] = files[file].sha256;
        entry["bytes"] = files[file].bytes;
      }
      ++file;
    }
    list.push_back(std::move(entry));
  }
  return list;
}

Json CalibrationJson(const CalibrationSpec& spec, const CalibrationUse& use) {
  Json calibration = {{"samples", spec.samples},
                      {"seq_len", spec.seq_len},
                      {"used_samples", use.sequences},
                      {"used_tokens", use.tokens},
                      {"warnings", use.warnings},
                      {"seed", spec.seed},
                      {"sources", SourcesJson(spec.sources, use.data)}};
  if (use.window_start) calibration["window_start"] = WindowStartName(*use.window_start);
  return calibration;
}

// Reports of earlier versions have less.
CalibrationUse CalibrationFrom(const Json& json) {
  CalibrationUse use{json.value("used_samples", int64_t{0}),
                     json.value("used_tokens", int64_t{0}),
                     json.value("warnings", std::vector<std::string>()),
                     {},
                     WindowStartFrom(json)};
  for (const Json& source : json.at("sources")) {
    if (!source.contains("sha256")) continue;
    use.data.push_back({source.at("text"), source.at("sha256"), source.at("bytes")});
  }
  return use;
}

// What of the settings this method and allocation read.
Json SettingsJson(const CompressSpec& spec) {
  Json settings = {{"rank_multiple", spec.rank_multiple}};
  if (RowOf(spec.allocation).has_floor) settings["min_keep_ratio"] = spec.min_keep_ratio;
  for (const std::string_view name : RowOf(spec.method).settings) {
    settings[std::string(name)] = spec.*FindSetting(name)->value;
  }
  return settings;
}

// The dtypes that are stored, and what rounding to them added to the losses.
Json RoundingJson(const Checkpoint& source, const CompressSpec& spec,
                  const ArtifactResult& artifact) {
  std::set<std::string_view> dtypes;
  double sum = 0, largest = 0;
  int64_t compressed = 0;
  for (const MatrixReport& m : artifact.matrices) {
    if (m.rank == 0) continue;
    const absl::StatusOr<TensorSpec> weight = source.Spec(m.name + ".weight");
    if (weight.ok()) dtypes.insert(DTypeName(weight->dtype));
    ++compressed;
    sum += m.rounding_excess;
    largest = std::max(largest, m.rounding_excess);
  }
  const bool refitted = RowOf(spec.encoding).refit != nullptr &&
                        spec.output_format == OutputFormat::kFactored && compressed > 0;
  return {{"dtypes", dtypes},
          {"coefficients_refitted", refitted},
          {"mean_excess", compressed > 0 ? sum / static_cast<double>(compressed) : 0.0},
          {"largest_excess", largest}};
}

}  // namespace

Json ReportJson(const Checkpoint& source, const CompressSpec& spec, const CompressResult& job,
                const ArtifactResult& artifact) {
  Json matrices = Json::array();
  for (const MatrixReport& m : artifact.matrices) {
    matrices.push_back({{"name", m.name},
                        {"rows", m.rows},
                        {"cols", m.cols},
                        {"rank", m.rank},
                        {"relative_loss", m.relative_loss},
                        {"optimum_loss", m.optimum_loss},
                        {"rounding_excess", m.rounding_excess},
                        {"spectrum", SpectrumJson(m.spectrum)}});
  }
  Json stages = Json::array();
  for (const StageTime& s : job.stages) {
    stages.push_back({{"stage", s.stage}, {"seconds", s.seconds}});
  }
  Json report = {
      {"format_version", 1},
      {"created_by", std::string("svdllm ") + SVDLLM_VERSION},
      {"job", spec.job_id},
      {"started", job.started},
      {"model", spec.model_uri},
      {"model_type", source.config().model_type},
      {"method", MethodName(spec.method)},
      {"keep_ratio", artifact.keep_ratio},
      {"allocation", AllocationName(spec.allocation)},
      {"encoding", EncodingName(spec.encoding)},
      {"settings", SettingsJson(spec)},
      {"output_format", OutputFormatName(spec.output_format)},
      {"calibration", CalibrationJson(spec.calibration, job.calibration)},
      {"device", job.device},
      {"before",
       {{"parameters", job.parameters},
        {"target_parameters", job.target_parameters},
        {"weight_bytes", job.weight_bytes}}},
      {"after",
       {{"parameters", artifact.parameters},
        {"target_parameters", artifact.compressed_parameters},
        {"weight_bytes", artifact.weight_bytes}}},
      {"rounding", RoundingJson(source, spec, artifact)},
      {"stages", stages},
      {"peak_host_bytes", job.peak_host_bytes},
      {"peak_device_bytes", job.peak_device_bytes},
      {"matrices", matrices},
  };
  report["before"].update(FiguresJson(job.before));
  report["after"].update(FiguresJson(artifact.figures));
  report["comparisons"] = ComparisonsJson(artifact.comparisons);
  if (artifact.verdict) report["verdict"] = VerdictJson(*artifact.verdict, spec.threshold);
  report["warnings"] = artifact.warnings;
  report["measure"] = MeasureJson(spec.measure);
  return report;
}

absl::StatusOr<OwnArtifact> ArtifactFromReport(const Json& report) {
  try {
    OwnArtifact own;
    ArtifactResult& artifact = own.artifact;
    own.before = FiguresFrom(report.at("before"));
    own.calibration = CalibrationFrom(report.at("calibration"));
    artifact.keep_ratio = report.at("keep_ratio");
    const Json& after = report.at("after");
    artifact.parameters = after.at("parameters");
    artifact.compressed_parameters = after.at("target_parameters");
    artifact.weight_bytes = after.at("weight_bytes");
    artifact.figures = FiguresFrom(after);
    artifact.comparisons = ComparisonsFrom(report.value("comparisons", Json::array()));
    if (report.contains("verdict")) artifact.verdict = VerdictFrom(report.at("verdict"));
    artifact.warnings = report.value("warnings", std::vector<std::string>());
    for (const Json& m : report.at("matrices")) {
      artifact.matrices.push_back({m.at("name"), m.at("rows"), m.at("cols"), m.at("rank"),
                                   m.at("relative_loss"), m.at("optimum_loss"),
                                   m.at("rounding_excess"),
                                   m.value("spectrum", std::vector<float>())});
    }
    return own;
  } catch (const nlohmann::json::exception& error) {
    return MakeError(absl::StatusCode::kDataLoss, kModelCorrupt,
                     std::string("compression_report.json: ") + error.what());
  }
}

}  // namespace svdllm
