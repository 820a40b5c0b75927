#include "report/page_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/format.h"
#include "report/assets.h"
#include "report/comparison.h"
#include "report/matrices.h"
#include "report/names.h"

namespace svdllm {
namespace {

Data DeviceMemory(int64_t bytes) { return bytes > 0 ? Data(Bytes(bytes)) : Nothing(); }

// Of the text that a compression measured first, which its cards at the top show.
Data FirstPerplexity(const Figures& before, const Figures& after) {
  if (after.perplexities.empty()) return Nothing();
  const PerplexityResult& first = after.perplexities.front();
  const PerplexityResult* other = FindNamed(before.perplexities, first.name);
  const Data was = other ? Data(DataObject{{"perplexity", Number(other->perplexity)},
                                           {"ratio", Number(first.perplexity / other->perplexity)}})
                         : Nothing();
  return DataObject{{"name", first.name}, {"before", was}, {"after", Number(first.perplexity)}};
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

Data VerdictData(const Verdict& verdict) {
  const DataList list(verdict.regressions.begin(), verdict.regressions.end());
  return DataObject{{"accepted", verdict.accepted},
                    {"count", fmt::to_string(list.size())},
                    {"regressions", list.empty() ? Nothing() : Data(DataObject{{"list", list}})}};
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
              int64_t device_bytes) {
  return DataObject{{"style", kReportCss},
                    {"version", SVDLLM_VERSION},
                    {"model", BaseName(model_uri)},
                    {"model_uri", model_uri},
                    {"device", device},
                    {"peak_memory", Bytes(host_bytes)},
                    {"peak_device_memory", DeviceMemory(device_bytes)}};
}

}  // namespace

Data CompressionData(const CompressSpec& spec, const CompressResult& job,
                     const ArtifactResult& artifact) {
  Data page = PageData(spec.model_uri, job.device, job.peak_host_bytes, job.peak_device_bytes);
  page["job"] = spec.job_id;
  page["method"] = MethodName(spec.method);
  page["allocation"] = AllocationName(spec.allocation);
  page["encoding"] = EncodingName(spec.encoding);
  page["output_format"] = OutputFormatName(spec.output_format);
  page["keep_ratio"] = fmt::format("{:.4g}", artifact.keep_ratio);
  page["kept_percent"] = fmt::format("{:.4g}", 100 * artifact.keep_ratio);
  page["parameters"] = SizeData(Count, job.parameters, artifact.parameters);
  page["linears"] = SizeData(Count, job.target_parameters, artifact.compressed_parameters);
  page["weights"] = SizeData(Bytes, job.weight_bytes, artifact.weight_bytes);
  page["first_perplexity"] = FirstPerplexity(job.before, artifact.figures);
  SetMeasured({"before", "after", job.before, artifact.figures}, page);
  SetMatrices(spec, artifact.matrices, page);
  page["time"] = TimeData(job);
  page["calibration"] = CalibrationData(spec, job);
  return page;
}

Data EvaluationData(const EvaluateSpec& spec, const EvaluateResult& result) {
  Data page =
      PageData(spec.model_uri, result.device, result.peak_host_bytes, result.peak_device_bytes);
  const bool compares = result.baseline.has_value();
  const ModelResult& model = result.model;
  const ModelResult& baseline = compares ? *result.baseline : model;
  page["baseline"] = compares ? Data(DataObject{{"uri", spec.baseline_uri}}) : Nothing();
  page["parameters"] = SizeData(Count, baseline.parameters, model.parameters);
  page["weights"] = SizeData(Bytes, baseline.weight_bytes, model.weight_bytes);
  page["verdict"] = result.verdict ? VerdictData(*result.verdict) : Nothing();
  const Figures none;
  SetMeasured(
      {compares ? "baseline" : nullptr, "model", compares ? baseline.figures : none, model.figures},
      page);
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
