#include "report/page_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/format.h"
#include "report/assets.h"
#include "report/damage.h"
#include "report/matrices.h"
#include "report/names.h"
#include "report/ratios.h"
#include "report/side_by_side.h"

namespace svdllm {
namespace {

Data DeviceMemory(int64_t bytes) { return bytes > 0 ? Data(Bytes(bytes)) : Nothing(); }

// The figure that speaks for all, which a compression's cards at the top show.
Data HeadlineData(const std::vector<Comparison>& comparisons) {
  const Comparison* const c = Headline(comparisons);
  if (c == nullptr) return Nothing();
  const auto text = [c](double value) {
    return c->is_perplexity() ? Number(value) : fmt::format("{:.4f}", value);
  };
  return DataObject{{"name", c->metric + ", " + c->name},
                    {"before", text(c->baseline)},
                    {"after", text(c->value)},
                    {"change", ChangeText(*c)},
                    {"damage", DamageClass(DamageOf(*c))}};
}

Data TimeData(const CompressResult& job) {
  double total = 0, most = 0;
  for (const StageTime& s : job.stages) total += s.seconds, most = std::max(most, s.seconds);
  const auto percent = [](double part, double whole) { return whole > 0 ? 100 * part / whole : 0; };
  DataList stages;
  for (const StageTime& s : job.stages) {
    stages.push_back(DataObject{{"name", s.stage},
                                {"width", fmt::format("{:.2f}%", percent(s.seconds, most))},
                                {"seconds", Seconds(s.seconds)},
                                {"share", fmt::format("{:.1f} %", percent(s.seconds, total))}});
  }
  return DataObject{{"total", Seconds(total)}, {"stages", stages}};
}

Data CalibrationData(const CompressSpec& spec, const CompressResult& job) {
  if (!ReadsInputs(RowOf(spec.method), RowOf(spec.allocation))) return Nothing();
  const CalibrationSpec& calibration = spec.calibration;
  const std::vector<std::string>& warnings = job.calibration.warnings;
  DataList sources;
  for (const CalibrationSource& source : calibration.sources) {
    sources.push_back(
        DataObject{{"separator", sources.empty() ? "" : ", "},
                   {"text", source.model_samples ? Nothing() : Data(BaseName(source.text.path))}});
  }
  return DataObject{{"samples", fmt::to_string(UsedSamples(spec, job))},
                    {"seq_len", fmt::to_string(calibration.seq_len)},
                    {"starts_windows", job.calibration.window_start == WindowStart::kWindow},
                    {"warnings", DataList(warnings.begin(), warnings.end())},
                    {"sources", sources}};
}

// How each text was cut.
DataList WindowsData(const Figures& figures) {
  DataList list;
  for (const PerplexityResult& p : figures.perplexities) {
    const char* begins = !p.window_start ? "each is a document"
                         : *p.window_start == WindowStart::kWindow
                             ? "each begins as a text does"
                             : "the first begins as a text does";
    list.push_back(
        DataObject{{"name", p.name}, {"seq_len", fmt::to_string(p.seq_len)}, {"begins", begins}});
  }
  return list;
}

// What was refused and why, what is doubtful of the limits, and how many figures were looked at.
Data VerdictData(const Verdict& verdict, const std::vector<Comparison>& comparisons) {
  const auto judged = std::count_if(comparisons.begin(), comparisons.end(),
                                    [](const Comparison& c) { return c.limit.has_value(); });
  return DataObject{
      {"accepted", verdict.accepted},
      {"judged", fmt::to_string(judged)},
      {"refused", fmt::to_string(verdict.regressions.size())},
      {"regressions", DataList(verdict.regressions.begin(), verdict.regressions.end())},
      {"warnings", DataList(verdict.warnings.begin(), verdict.warnings.end())}};
}

// The top of a page: what came of it in a sentence, coloured by damage; whether it is destroyed;
// the verdict, where one was asked for.
void SetConclusion(int64_t bytes_before, int64_t bytes_after,
                   const std::vector<Comparison>& comparisons,
                   const std::vector<std::string>& warnings, const std::optional<Verdict>& verdict,
                   Data& page) {
  const Comparison* const headline = Headline(comparisons);
  page["conclusion"] =
      DataObject{{"text", Conclusion(bytes_before, bytes_after, comparisons)},
                 {"damage", headline == nullptr ? "" : DamageClass(DamageOf(*headline))}};
  page["warnings"] = DataList(warnings.begin(), warnings.end());
  page["verdict"] = verdict ? VerdictData(*verdict, comparisons) : Nothing();
}

// "2026-01-31T12:00:00Z" as people write it.
Data DateData(const std::string& started) {
  if (started.size() < 16) return Nothing();
  return Data(started.substr(0, 10) + " " + started.substr(11, 5) + " UTC");
}

Data MethodData(std::string_view name, std::string_view explanation) {
  return DataObject{{"name", std::string(name)}, {"explanation", std::string(explanation)}};
}

// Of this model only: what it alone would have taken.
double ComputingSeconds(const Figures& figures) {
  double seconds = 0;
  for (const TaskResult& t : figures.tasks) seconds += t.seconds;
  for (const ThroughputResult& t : figures.throughputs) seconds += t.seconds;
  for (const PerplexityResult& p : figures.perplexities) seconds += p.seconds;
  return seconds;
}

// What every page has.
Data PageData(const std::string& model_uri, const std::string& device, int64_t host_bytes,
              int64_t device_bytes, const std::string& started) {
  return DataObject{{"style", kReportCss},
                    {"version", SVDLLM_VERSION},
                    {"date", DateData(started)},
                    {"model", ModelName(model_uri)},
                    {"model_uri", model_uri},
                    {"device", device},
                    {"peak_memory", Bytes(host_bytes)},
                    {"peak_device_memory", DeviceMemory(device_bytes)}};
}

}  // namespace

Data CompressionData(const CompressSpec& spec, const CompressResult& job,
                     const ArtifactResult& artifact) {
  Data page =
      PageData(spec.model_uri, job.device, job.peak_host_bytes, job.peak_device_bytes, job.started);
  page["job"] = spec.job_id;
  page["method"] = MethodData(MethodName(spec.method), RowOf(spec.method).explanation);
  page["allocation"] =
      MethodData(AllocationName(spec.allocation), RowOf(spec.allocation).explanation);
  page["encoding"] = MethodData(EncodingName(spec.encoding), RowOf(spec.encoding).explanation);
  page["output_format"] = OutputFormatName(spec.output_format);
  page["keep_ratio"] = fmt::format("{:.4g}", artifact.keep_ratio);
  page["kept_percent"] = fmt::format("{:.4g}", 100 * artifact.keep_ratio);
  page["parameters"] = SizeData(Count, job.parameters, artifact.parameters);
  page["linears"] = SizeData(Count, job.target_parameters, artifact.compressed_parameters);
  page["weights"] = SizeData(Bytes, job.weight_bytes, artifact.weight_bytes);
  page["headline"] = HeadlineData(artifact.comparisons);
  SetConclusion(job.weight_bytes, artifact.weight_bytes, artifact.comparisons, artifact.warnings,
                artifact.verdict, page);
  SetRatios(job, artifact, page);
  SetMeasured({"before", "after", job.before, artifact.figures, artifact.comparisons}, page);
  SetSources(spec.measure, artifact.figures, page);
  SetMatrices(spec, artifact.matrices, page);
  page["time"] = TimeData(job);
  page["calibration"] = CalibrationData(spec, job);
  return page;
}

Data EvaluationData(const EvaluateSpec& spec, const EvaluateResult& result) {
  Data page = PageData(spec.model_uri, result.device, result.peak_host_bytes,
                       result.peak_device_bytes, result.started);
  const bool compares = result.baseline.has_value();
  const ModelResult& model = result.model;
  const ModelResult& baseline = compares ? *result.baseline : model;
  page["baseline"] =
      compares
          ? Data(DataObject{{"uri", spec.baseline_uri}, {"name", ModelName(spec.baseline_uri)}})
          : Nothing();
  page["parameters"] = SizeData(Count, baseline.parameters, model.parameters);
  page["weights"] = SizeData(Bytes, baseline.weight_bytes, model.weight_bytes);
  SetConclusion(baseline.weight_bytes, model.weight_bytes, result.comparisons, result.warnings,
                result.verdict, page);
  const Figures none;
  SetMeasured({compares ? "baseline" : nullptr, "model", compares ? baseline.figures : none,
               model.figures, result.comparisons},
              page);
  SetSources(spec.measure, model.figures, page);
  const AcceptanceThreshold& threshold = spec.threshold;
  page["max_accuracy_drop"] =
      threshold.max_accuracy_drop ? Data(Number(*threshold.max_accuracy_drop)) : Nothing();
  page["max_perplexity_increase"] =
      threshold.max_perplexity_increase
          ? Data(fmt::format("{:.4g} %", 100 * *threshold.max_perplexity_increase))
          : Nothing();
  page["windows"] = WindowsData(model.figures);
  page["computing"] = Seconds(ComputingSeconds(model.figures));
  page["has_predictions"] = !spec.measure.tasks.empty();
  return page;
}

}  // namespace svdllm
