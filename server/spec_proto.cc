#include "server/spec_proto.h"

#include <utility>

#include "server/enum_rows.h"
#include "server/known_parts.h"
#include "server/report_texts.h"
#include "server/status_proto.h"
#include "tasks/text_tasks.h"

namespace svdllm {
namespace {

std::string TextOf(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

// The local path of an input; an absent one under the reason that tells which it was.
absl::StatusOr<std::string> Fetch(const ArtifactStore& store, const std::string& uri,
                                  const std::string& scratch_dir, std::string_view reason,
                                  const std::string& what) {
  auto path = store.Fetch(uri, scratch_dir);
  if (path.ok() || !ErrorReason(path.status()).empty()) return path;
  return WithOffender(MakeError(path.status().code(), reason, what + ": " + TextOf(path.status())),
                      "field", what);
}

// What the value of a field stands for: the member `what` of the row that it names. `to` stays as
// it is where the field names none.
template <typename Enum, typename Row, typename T, typename To>
absl::Status Read(const char* field, Enum value, std::span<const Row> rows, T Row::*what, To& to) {
  if (static_cast<int>(value) == 0) return absl::OkStatus();
  const Row* const row = FindRow(rows, value);
  if (row == nullptr) {
    return InvalidFields({{field, std::to_string(value) + " is nothing that this server can do"}});
  }
  to = row->*what;
  return absl::OkStatus();
}

absl::StatusOr<TextSource> FetchText(const ArtifactStore& store, const v1::TextSource& text,
                                     const std::string& scratch_dir, std::string_view reason,
                                     const std::string& what) {
  TextSource source;
  ASSIGN_OR_RETURN(source.path, Fetch(store, text.uri(), scratch_dir, reason, what));
  source.uri = text.uri();
  source.text_field = text.text_field();
  RETURN_IF_ERROR(
      Read("packing", text.packing(), Packings(), &PackingRow::packing, source.packing));
  return source;
}

absl::StatusOr<CalibrationSpec> ToSpec(const v1::Calibration& calibration,
                                       const ArtifactStore& store, const std::string& scratch_dir) {
  CalibrationSpec spec;
  if (calibration.has_text()) {
    ASSIGN_OR_RETURN(
        spec.sources.emplace_back().text,
        FetchText(store, calibration.text(), scratch_dir, kCalibrationInvalid, "calibration.text"));
  }
  for (int i = 0; i < calibration.sources_size(); ++i) {
    const v1::CalibrationSource& source = calibration.sources(i);
    CalibrationSource& added = spec.sources.emplace_back();
    added.weight = source.weight();
    added.model_samples = source.model_samples();
    if (!source.has_text()) continue;
    ASSIGN_OR_RETURN(added.text, FetchText(store, source.text(), scratch_dir, kCalibrationInvalid,
                                           "calibration.sources[" + std::to_string(i) + "].text"));
  }
  spec.samples = calibration.samples();
  spec.seq_len = calibration.seq_len();
  spec.seed = calibration.seed();
  spec.first_document = calibration.first_document();
  RETURN_IF_ERROR(Read("calibration.window_start", calibration.window_start(), WindowStarts(),
                       &WindowStartRow::window_start, spec.window_start));
  return spec;
}

ThroughputSpec ToSpec(const v1::Throughput& throughput) {
  ThroughputSpec spec;
  spec.batch_sizes.assign(throughput.batch_sizes().begin(), throughput.batch_sizes().end());
  spec.prompt_tokens = throughput.prompt_tokens();
  spec.new_tokens = throughput.new_tokens();
  spec.repetitions = throughput.repetitions();
  return spec;
}

AcceptanceThreshold ToSpec(const v1::AcceptanceThreshold& threshold) {
  AcceptanceThreshold spec;
  if (threshold.has_max_accuracy_drop()) spec.max_accuracy_drop = threshold.max_accuracy_drop();
  if (threshold.has_max_perplexity_increase()) {
    spec.max_perplexity_increase = threshold.max_perplexity_increase();
  }
  return spec;
}

absl::StatusOr<PerplexitySpec> ToTextSpec(const v1::EvaluationTask& task, const TextTask& text_task,
                                          const ArtifactStore& store,
                                          const std::string& scratch_dir, const std::string& what) {
  PerplexitySpec spec;
  spec.name = task.label();
  ASSIGN_OR_RETURN(
      spec.text, FetchText(store, task.dataset(), scratch_dir, kDatasetInvalid, what + ".dataset"));
  spec.text.rows = text_task.rows;
  spec.text.max_documents = text_task.max_documents;
  spec.seq_len = task.seq_len();
  spec.limit = task.limit();
  RETURN_IF_ERROR(Read("window_start", task.window_start(), WindowStarts(),
                       &WindowStartRow::window_start, spec.window_start));
  return spec;
}

absl::StatusOr<TaskSpec> ToTaskSpec(const v1::EvaluationTask& task, const ArtifactStore& store,
                                    const std::string& scratch_dir, const std::string& what) {
  TaskSpec spec;
  spec.task = task.name();
  spec.name = task.label();
  spec.num_fewshot = task.num_fewshot();
  spec.limit = task.limit();
  const auto fetch = [&](const std::string& uri, const char* field, std::string& path) {
    if (uri.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(path, Fetch(store, uri, scratch_dir, kDatasetInvalid, what + "." + field));
    return absl::OkStatus();
  };
  RETURN_IF_ERROR(fetch(task.dataset().uri(), "dataset", spec.path));
  RETURN_IF_ERROR(fetch(task.labels_uri(), "labels_uri", spec.labels_path));
  RETURN_IF_ERROR(fetch(task.fewshot_uri(), "fewshot_uri", spec.fewshot_path));
  return spec;
}

// The one way from tasks to what is measured, of both kinds of request. list: their path, "tasks".
absl::Status AddTasks(const google::protobuf::RepeatedPtrField<v1::EvaluationTask>& tasks,
                      const std::string& list, const ArtifactStore& store,
                      const std::string& scratch_dir, MeasureSpec& measure) {
  for (int i = 0; i < tasks.size(); ++i) {
    const std::string what = list + "[" + std::to_string(i) + "]";
    const TextTask* const text_task = FindTextTask(tasks[i].name());
    if (text_task != nullptr) {
      ASSIGN_OR_RETURN(measure.texts.emplace_back(),
                       ToTextSpec(tasks[i], *text_task, store, scratch_dir, what));
    } else {
      ASSIGN_OR_RETURN(measure.tasks.emplace_back(),
                       ToTaskSpec(tasks[i], store, scratch_dir, what));
    }
  }
  return absl::OkStatus();
}

// The settings that the method reads, by their names.
void ReadSettings(const v1::CompressModelRequest& request, CompressSpec& spec) {
  for (const std::string_view name : RowOf(spec.method).settings) {
    const MethodSetting* const setting = FindSetting(name);
    const auto* const field = request.GetDescriptor()->FindFieldByName(std::string(name));
    if (setting == nullptr || field == nullptr) continue;
    const auto& reflection = *request.GetReflection();
    if (!reflection.HasField(request, field)) continue;  // stored before there was such a field
    spec.*setting->value = reflection.GetDouble(request, field);
  }
}

absl::Status ReadHow(const v1::CompressModelRequest& request, CompressSpec& spec) {
  RETURN_IF_ERROR(Read("method", request.method(), Methods(), &MethodRow::method, spec.method));
  RETURN_IF_ERROR(
      Read("encoding", request.encoding(), Encodings(), &EncodingRow::encoding, spec.encoding));
  RETURN_IF_ERROR(Read("allocation", request.allocation(), Allocations(),
                       &AllocationRow::allocation, spec.allocation));
  RETURN_IF_ERROR(Read("output_format", request.output_format(), OutputFormats(),
                       &OutputFormatRow::format, spec.output_format));
  // Requests stored before these fields existed have none of them.
  if (request.rank_multiple() > 0) spec.rank_multiple = request.rank_multiple();
  if (request.has_min_keep_ratio()) spec.min_keep_ratio = request.min_keep_ratio();
  ReadSettings(request, spec);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CompressSpec> ToSpec(const v1::CompressModelRequest& request,
                                    const ArtifactStore& store, const std::string& scratch_dir) {
  RETURN_IF_ERROR(CheckKnown(request));
  CompressSpec spec;
  spec.model_uri = request.model();
  spec.output_uri = request.output_uri();
  spec.work_dir = scratch_dir;
  ASSIGN_OR_RETURN(spec.model_dir,
                   Fetch(store, request.model(), scratch_dir, kModelNotFound, "model"));
  RETURN_IF_ERROR(ReadHow(request, spec));
  spec.keep_ratios.assign(request.keep_ratios().begin(), request.keep_ratios().end());
  ASSIGN_OR_RETURN(spec.calibration, ToSpec(request.calibration(), store, scratch_dir));
  spec.threshold = ToSpec(request.threshold());
  spec.keep_rejected = request.keep_rejected();
  spec.evaluate_held_out = !request.evaluation().disabled();
  if (request.evaluation().disabled()) return spec;
  v1::ReportEvaluation evaluation = request.evaluation();
  MoveTexts(evaluation);
  RETURN_IF_ERROR(
      AddTasks(evaluation.tasks(), "evaluation.tasks", store, scratch_dir, spec.measure));
  if (evaluation.has_throughput()) spec.measure.throughput = ToSpec(evaluation.throughput());
  return spec;
}

absl::StatusOr<EvaluateSpec> ToSpec(const v1::EvaluateRequest& request, const ArtifactStore& store,
                                    const std::string& scratch_dir) {
  RETURN_IF_ERROR(CheckKnown(request));
  EvaluateSpec spec;
  spec.model_uri = request.model();
  ASSIGN_OR_RETURN(spec.model_dir,
                   Fetch(store, request.model(), scratch_dir, kModelNotFound, "model"));
  spec.output_uri = request.output_uri();
  spec.work_dir = scratch_dir;
  if (!request.baseline().empty()) {
    spec.baseline_uri = request.baseline();
    ASSIGN_OR_RETURN(spec.baseline_dir,
                     Fetch(store, request.baseline(), scratch_dir, kModelNotFound, "baseline"));
  }
  spec.threshold = ToSpec(request.threshold());
  if (request.has_throughput()) spec.measure.throughput = ToSpec(request.throughput());
  RETURN_IF_ERROR(AddTasks(request.tasks(), "tasks", store, scratch_dir, spec.measure));
  return spec;
}

}  // namespace svdllm
