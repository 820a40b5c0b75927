#include "client/cli/text_output.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/comparison_text.h"
#include "client/cli/enum_names.h"
#include "client/cli/format.h"
#include "client/cli/speed_table.h"

namespace svdllm::cli {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string ErrorText(const v1::JobError& error) {
  return absl::StrCat(error.message(),
                      error.reason().empty() ? "" : absl::StrCat(" (", error.reason(), ")"));
}

// The entry of this name; nullptr where there is none.
template <typename Results>
const typename Results::value_type* Find(const Results& results, const std::string& name) {
  const auto found = std::find_if(results.begin(), results.end(),
                                  [&name](const auto& entry) { return entry.name() == name; });
  return found == results.end() ? nullptr : &*found;
}

using Tasks = google::protobuf::RepeatedPtrField<v1::TaskResult>;

// "0.190 ± 0.018"
std::string MetricText(const v1::Metric* metric) {
  if (metric == nullptr) return "-";
  std::string text = absl::StrFormat("%.3f", metric->value());
  if (metric->has_std_error()) absl::StrAppendFormat(&text, " ± %.3f", metric->std_error());
  return text;
}

// A row a task and metric, a column for each of what was measured; the first has every task.
std::string TaskTable(const std::vector<std::pair<std::string, const Tasks*>>& measured) {
  Rows rows = {{"task", "items", "metric"}};
  for (const auto& [title, tasks] : measured) rows[0].push_back(title);
  for (const v1::TaskResult& task : *measured[0].second) {
    for (const v1::Metric& metric : task.metrics()) {
      std::vector<std::string>& row = rows.emplace_back();
      row = {task.name(), Grouped(task.items()), metric.name()};
      for (const auto& [title, tasks] : measured) {
        const v1::TaskResult* found = Find(*tasks, task.name());
        row.push_back(
            MetricText(found == nullptr ? nullptr : Find(found->metrics(), metric.name())));
      }
    }
  }
  return rows.size() > 1 ? absl::StrCat("\n", Table(rows)) : "";
}

// What has to be known before any figure: what was refused and why, and what is destroyed.
std::string JudgementText(const v1::CompressModelResult& result) {
  std::string text;
  for (const v1::ArtifactResult& artifact : result.artifacts()) {
    const std::string title = absl::StrCat("keep ", artifact.keep_ratio(), ": ");
    if (artifact.has_verdict()) {
      absl::StrAppend(&text, title, VerdictText(artifact.verdict(), artifact.comparisons()));
    }
    text += WarningLines(title, artifact.warnings());
  }
  return text.empty() ? "" : text + "\n";
}

std::string CompressionChanges(const v1::CompressModelResult& result) {
  std::vector<ComparedModel> models;
  for (const v1::ArtifactResult& artifact : result.artifacts()) {
    models.push_back({absl::StrCat("keep ", artifact.keep_ratio()), &artifact.comparisons()});
  }
  return ComparisonTable("dense", models);
}

std::string CompressionTable(const v1::CompressModelResult& result) {
  Rows rows = {{"keep ratio", "parameters", "bytes"},
               {"dense", Grouped(result.parameters()), Bytes(result.weight_bytes())}};
  std::vector<std::string> names;
  for (const v1::PerplexityResult& before : result.perplexities()) {
    names.push_back(before.name());
    rows[0].push_back(absl::StrCat(before.name(), before.held_out() ? " (in domain)" : ""));
    rows[1].push_back(Perplexity(before.perplexity()));
  }
  rows[0].push_back("artifact");
  rows[1].push_back("");
  std::vector<std::pair<std::string, const Tasks*>> measured = {{"dense", &result.tasks()}};
  MeasuredSpeeds speeds = {{"dense", &result.throughputs()}};
  for (const v1::ArtifactResult& artifact : result.artifacts()) {
    const std::string title = absl::StrCat("keep ", artifact.keep_ratio());
    measured.emplace_back(title, &artifact.tasks());
    speeds.emplace_back(title, &artifact.throughputs());
    std::vector<std::string>& row = rows.emplace_back();
    row = {absl::StrCat(artifact.keep_ratio()),
           absl::StrCat(Grouped(artifact.parameters()),
                        ChangeText(result.parameters(), artifact.parameters())),
           absl::StrCat(Bytes(artifact.weight_bytes()),
                        ChangeText(result.weight_bytes(), artifact.weight_bytes()))};
    for (const std::string& name : names) {
      const v1::PerplexityResult* before = Find(result.perplexities(), name);
      const v1::PerplexityResult* after = Find(artifact.perplexities(), name);
      row.push_back(after == nullptr ? "-"
                                     : absl::StrCat(Perplexity(before->perplexity()), " → ",
                                                    Perplexity(after->perplexity())));
    }
    row.push_back(artifact.uri());
  }
  return absl::StrCat(JudgementText(result), Table(rows), CompressionChanges(result),
                      TaskTable(measured), SpeedTable(speeds),
                      WarningText(result.calibration().warnings()));
}

// "17.32 ± 0.25": the error of the logarithm times the perplexity.
std::string PerplexityText(const v1::PerplexityResult& result) {
  std::string text = Perplexity(result.perplexity());
  if (result.has_log_std_error()) {
    absl::StrAppend(&text, " ± ", Perplexity(result.perplexity() * result.log_std_error()));
  }
  return text;
}

// One row, or two where there is a baseline, of every text.
std::string PerplexityTable(const v1::EvaluateResult& result) {
  Rows rows = {{"text", "model", "perplexity", "windows", "tokens scored", "time"}};
  const auto add = [&rows](const char* model, const v1::PerplexityResult& entry) {
    rows.push_back({entry.name(), model, PerplexityText(entry), Grouped(entry.windows()),
                    Grouped(entry.predicted_tokens()), Duration(entry.seconds())});
  };
  for (const v1::PerplexityResult& entry : result.model().perplexities()) {
    const v1::PerplexityResult* before = Find(result.baseline().perplexities(), entry.name());
    if (before != nullptr) add("baseline", *before);
    add("this", entry);
  }
  if (!result.has_baseline()) {
    for (std::vector<std::string>& row : rows) row.erase(row.begin() + 1);
  }
  return rows.size() > 1 ? absl::StrCat("\n", Table(rows)) : "";
}

std::string EvaluationText(const v1::EvaluateResult& result) {
  const auto size = [](const v1::ModelFigures& model) {
    return absl::StrCat(Grouped(model.parameters()), " parameters, ", Bytes(model.weight_bytes()));
  };
  std::string text;
  if (result.has_verdict()) text = VerdictText(result.verdict(), result.comparisons());
  text += WarningLines("", result.warnings());
  if (!text.empty()) text += "\n";
  text += size(result.model());
  if (result.has_baseline()) absl::StrAppend(&text, " (baseline: ", size(result.baseline()), ")");
  absl::StrAppend(&text, "\n", ComparisonTable("baseline", {{"this", &result.comparisons()}}),
                  PerplexityTable(result));
  std::vector<std::pair<std::string, const Tasks*>> measured = {{"this", &result.model().tasks()}};
  if (result.has_baseline()) measured.emplace_back("baseline", &result.baseline().tasks());
  std::rotate(measured.begin(), measured.end() - 1, measured.end());
  absl::StrAppend(&text, TaskTable(measured));
  MeasuredSpeeds speeds;
  if (result.has_baseline()) speeds.emplace_back("baseline", &result.baseline().throughputs());
  speeds.emplace_back("this", &result.model().throughputs());
  absl::StrAppend(&text, SpeedTable(speeds));
  if (!result.report_uri().empty()) absl::StrAppend(&text, "\nreport: ", result.report_uri(), "\n");
  return text;
}

std::string ResultText(const v1::Job& job) {
  if (job.has_compress_model_result()) return CompressionTable(job.compress_model_result());
  if (job.has_evaluate_result()) return EvaluationText(job.evaluate_result());
  return "";
}

// "ANCHORED, PIVOTED, RELATIVE_TAILS ranks"
std::string HowOf(const v1::CompressModelRequest& request) {
  return absl::StrCat(ShortName(request.method()), ", ", ShortName(request.encoding()), ", ",
                      ShortName(request.allocation()), " ranks");
}

// "75 % a.txt, 25 % b.txt"
std::string CalibrationText(const v1::Calibration& calibration) {
  if (calibration.has_text()) return calibration.text().uri();
  double total = 0;
  for (const v1::CalibrationSource& source : calibration.sources()) total += source.weight();
  std::vector<std::string> parts;
  for (const v1::CalibrationSource& source : calibration.sources()) {
    parts.push_back(
        absl::StrFormat("%.3g %% %s", 100 * source.weight() / total,
                        source.has_text() ? source.text().uri() : "samples of the model's own"));
  }
  return absl::StrJoin(parts, ", ");
}

// " (SVD_LLM, PLAIN, UNIFORM ranks, cpu, peak memory 1.2 GB)"
std::string HowItRan(const v1::Job& job) {
  std::vector<std::string> parts;
  if (job.has_compress_model_request()) {
    parts.push_back(HowOf(job.compress_model_request()));
  }
  const auto add = [&](const auto& result) {
    if (!result.device().empty()) parts.push_back(result.device());
    if (result.peak_host_bytes() > 0) {
      parts.push_back(absl::StrCat("peak memory ", Bytes(result.peak_host_bytes())));
    }
    if (result.peak_device_bytes() > 0) {
      parts.push_back(absl::StrCat("on the device ", Bytes(result.peak_device_bytes())));
    }
  };
  if (job.has_compress_model_result()) add(job.compress_model_result());
  if (job.has_evaluate_result()) add(job.evaluate_result());
  return parts.empty() ? "" : absl::StrCat(" (", absl::StrJoin(parts, ", "), ")");
}

std::string Elapsed(const v1::Job& job) {
  if (!job.has_start_time() || !job.has_end_time()) return "";
  return absl::StrCat(" after ", Duration(Between(job.start_time(), job.end_time())));
}

std::string ProgressText(const v1::Progress& progress) {
  std::string text = absl::StrFormat("%.0f%% %s", progress.percent(), progress.stage());
  if (progress.layers_total() > 0) {
    absl::StrAppendFormat(&text, ", layer %d/%d", progress.layers_done(), progress.layers_total());
  }
  if (progress.has_eta()) absl::StrAppend(&text, ", ETA ", Duration(progress.eta()));
  return text;
}

std::string KeepRatios(const v1::CompressModelRequest& request) {
  return absl::StrJoin(request.keep_ratios(), ",");
}

}  // namespace

std::string WarningText(const google::protobuf::RepeatedPtrField<std::string>& warnings) {
  std::string text = warnings.empty() ? "" : "\n";
  for (const std::string& warning : warnings) absl::StrAppend(&text, "warning: ", warning, "\n");
  return text;
}

std::string ModelOf(const v1::Job& job) {
  return job.has_evaluate_request() ? job.evaluate_request().model()
                                    : job.compress_model_request().model();
}

std::string RequestText(const v1::Job& job) {
  if (job.has_compress_model_request()) {
    const v1::CompressModelRequest& request = job.compress_model_request();
    std::string text = absl::StrCat(HowOf(request), ", keep ratio ", KeepRatios(request), ", ",
                                    ShortName(request.output_format()));
    if (!request.has_calibration()) return text;
    absl::StrAppend(&text, ", calibrated on ", request.calibration().samples(), " × ",
                    request.calibration().seq_len(), " tokens of ",
                    CalibrationText(request.calibration()));
    return text;
  }
  std::vector<std::string> tasks;
  for (const v1::EvaluationTask& task : job.evaluate_request().tasks()) {
    tasks.push_back(absl::StrCat(task.label().empty() ? task.name() : task.label(), " on ",
                                 task.dataset().uri()));
  }
  if (job.evaluate_request().has_throughput()) {
    tasks.push_back(absl::StrCat(
        "speed of ", absl::StrJoin(job.evaluate_request().throughput().batch_sizes(), ", "),
        " sequences together"));
  }
  return absl::StrJoin(tasks, "; ");
}

std::string JobSummary(const v1::Job& job) {
  std::string text = absl::StrCat(job.name(), " ");
  if (job.state() == v1::JOB_STATE_FAILED) {
    absl::StrAppend(&text, "failed", Elapsed(job), ": ", ErrorText(job.error()), "\n");
    if (const std::string result = ResultText(job); !result.empty()) {
      absl::StrAppend(&text, "\n", result);
    }
  } else if (job.state() == v1::JOB_STATE_CANCELLED) {
    absl::StrAppend(&text, "was cancelled", Elapsed(job), "; nothing was published\n");
  } else if (job.state() == v1::JOB_STATE_SUCCEEDED) {
    absl::StrAppend(&text, "succeeded", Elapsed(job), HowItRan(job), "\n\n", ResultText(job));
  } else {
    absl::StrAppend(&text, "is ", ShortName(job.state()), "\n");
  }
  return text;
}

std::string JobDetails(const v1::Job& job) {
  Rows rows = {
      {"name", job.name()},
      {"kind", ShortName(job.kind())},
      {"state",
       absl::StrCat(ShortName(job.state()), job.queue_position() > 0 ? ", " : "", QueueText(job))},
      {"model", ModelOf(job)},
      {job.has_evaluate_request() ? "tasks" : "request", RequestText(job)},
      {"created", Time(job.create_time())},
      {"started", Time(job.start_time())},
      {"ended", absl::StrCat(Time(job.end_time()), job.has_end_time() && job.has_start_time()
                                                       ? absl::StrCat(",", Elapsed(job))
                                                       : "")},
      {"attempt", absl::StrCat(job.attempt(), " of at most ", job.max_attempts())}};
  if (!job.owner().empty()) rows.insert(rows.begin() + 1, {"owner", job.owner()});
  if (!job.display_name().empty()) rows.insert(rows.begin() + 1, {"called", job.display_name()});
  for (const v1::Attempt& attempt : job.attempts()) {
    rows.push_back({"", absl::StrCat(attempt.number(), ": ", attempt.outcome(), " ",
                                     Time(attempt.end_time()), attempt.has_error() ? ", " : "",
                                     attempt.has_error() ? ErrorText(attempt.error()) : "")});
  }
  // Of the map in the order of its keys, not of its hashes.
  for (const auto& [key, value] :
       std::map<std::string, std::string>(job.labels().begin(), job.labels().end())) {
    rows.push_back({"label", absl::StrCat(key, "=", value)});
  }
  const bool ended = job.has_end_time();
  if (job.has_progress() && !ended) rows.push_back({"progress", ProgressText(job.progress())});
  if (job.has_artifact_expire_time()) {
    rows.push_back(
        {"artifacts", absl::StrCat(job.artifacts_expired() ? "removed, kept until " : "kept until ",
                                   Time(job.artifact_expire_time()))});
  }
  if (job.has_error()) rows.push_back({"error", ErrorText(job.error())});
  const std::string result = ResultText(job);
  return absl::StrCat(Table(rows), result.empty() ? "" : "\n", result);
}

std::string QueueText(const v1::Job& job) {
  if (job.queue_position() <= 0) return "";
  return absl::StrCat("number ", job.queue_position(), " in the queue");
}

std::string ServerInfoText(const v1::ServerInfo& info) {
  const auto names = [](const auto& values, const google::protobuf::EnumDescriptor* type) {
    return absl::StrJoin(values, ", ", [type](std::string* out, int value) {
      absl::StrAppend(out, ShortName(*type, value));
    });
  };
  Rows rows = {{"version", info.version()}};
  for (const v1::Device& device : info.devices()) {
    std::string text =
        absl::StrCat(device.name(), ": ", device.description(), ", ", Bytes(device.memory_bytes()));
    if (device.memory_limit_bytes() > 0 && device.memory_limit_bytes() < device.memory_bytes()) {
      absl::StrAppend(&text, ", of which jobs may use ", Bytes(device.memory_limit_bytes()));
    }
    rows.push_back({"device", text});
  }
  const v1::Limits& limits = info.limits();
  rows.push_back({"families", absl::StrJoin(info.families(), ", ")});
  rows.push_back({"methods", names(info.methods(), v1::Method_descriptor())});
  rows.push_back({"allocations", names(info.allocations(), v1::Allocation_descriptor())});
  rows.push_back({"encodings", names(info.encodings(), v1::Encoding_descriptor())});
  rows.push_back({"output formats", names(info.output_formats(), v1::OutputFormat_descriptor())});
  rows.push_back({"tasks", absl::StrJoin(info.tasks(), ", ")});
  rows.push_back({"artifact root", info.artifact_root()});
  rows.push_back({"limits", absl::StrCat(Grouped(limits.max_queued_jobs()), " queued jobs, ",
                                         limits.max_keep_ratios(), " keep ratios, ",
                                         limits.max_tasks(), " tasks and ", limits.max_labels(),
                                         " labels a job, ", limits.max_attempts(), " attempts")});
  return Table(rows);
}

}  // namespace svdllm::cli
