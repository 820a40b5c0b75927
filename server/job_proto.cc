#include "server/job_proto.h"

#include <google/protobuf/util/time_util.h>

#include <cmath>

#include "base/utf8.h"
#include "queue/job_store.h"
#include "server/enum_rows.h"
#include "server/status_proto.h"
#include "server/understood.h"

namespace svdllm {
namespace {

using google::protobuf::util::TimeUtil;

void SetTime(int64_t ms, google::protobuf::Timestamp* (v1::Job::*field)(), v1::Job& job) {
  if (ms > 0) *(job.*field)() = TimeUtil::MillisecondsToTimestamp(ms);
}

google::protobuf::Duration ToDuration(double seconds) {
  return TimeUtil::MillisecondsToDuration(static_cast<int64_t>(std::llround(seconds * 1000)));
}

v1::DataFile ToProto(const DataFile& file) {
  v1::DataFile message;
  message.set_uri(file.uri);
  message.set_sha256(file.sha256);
  message.set_bytes(file.bytes);
  return message;
}

v1::PerplexityResult ToProto(const PerplexityResult& result) {
  v1::PerplexityResult message;
  message.set_name(result.name);
  message.set_perplexity(result.perplexity);
  message.set_predicted_tokens(result.predicted_tokens);
  message.set_windows(result.windows);
  message.set_leftover_tokens(result.leftover_tokens);
  message.set_seconds(result.seconds);
  message.set_tokens_per_second(result.tokens_per_second);
  message.set_held_out(result.held_out);
  message.set_seq_len(result.seq_len);
  *message.mutable_data() = ToProto(result.data);
  if (result.log_std_error >= 0) message.set_log_std_error(result.log_std_error);
  message.set_window_start(ToProto(result.window_start));
  return message;
}

v1::TaskResult ToProto(const TaskResult& result) {
  v1::TaskResult message;
  message.set_name(result.name);
  message.set_task(result.task);
  for (const TaskMetric& metric : result.metrics) {
    v1::Metric& added = *message.add_metrics();
    added.set_name(metric.name);
    added.set_value(metric.value);
    if (metric.std_error >= 0) added.set_std_error(metric.std_error);
  }
  message.set_items(result.items);
  message.set_tokens(result.tokens);
  message.set_seconds(result.seconds);
  for (const DataFile& file : result.data) *message.add_data() = ToProto(file);
  message.set_num_fewshot(static_cast<int32_t>(result.num_fewshot));
  return message;
}

v1::ThroughputResult ToProto(const ThroughputResult& result) {
  v1::ThroughputResult message;
  message.set_batch_size(static_cast<int32_t>(result.batch_size));
  message.set_prompt_tokens(result.prompt_tokens);
  message.set_new_tokens(result.new_tokens);
  message.set_repetitions(static_cast<int32_t>(result.repetitions));
  message.set_prefill_tokens_per_second(result.prefill.median);
  message.set_least_prefill_tokens_per_second(result.prefill.least);
  message.set_largest_prefill_tokens_per_second(result.prefill.largest);
  message.set_decode_tokens_per_second(result.decode.median);
  message.set_least_decode_tokens_per_second(result.decode.least);
  message.set_largest_decode_tokens_per_second(result.decode.largest);
  message.set_peak_memory_bytes(result.peak_memory_bytes);
  message.set_seconds(result.seconds);
  return message;
}

// What was measured, of whatever it was measured on.
template <typename Message>
void AddFigures(const Figures& from, Message& to) {
  for (const PerplexityResult& perplexity : from.perplexities) {
    *to.add_perplexities() = ToProto(perplexity);
  }
  for (const TaskResult& task : from.tasks) *to.add_tasks() = ToProto(task);
  for (const ThroughputResult& throughput : from.throughputs) {
    *to.add_throughputs() = ToProto(throughput);
  }
}

v1::Comparison ToProto(const Comparison& comparison) {
  v1::Comparison message;
  message.set_name(comparison.name);
  message.set_metric(comparison.metric);
  message.set_baseline(comparison.baseline);
  message.set_value(comparison.value);
  message.set_change(comparison.change);
  if (comparison.std_error >= 0) message.set_std_error(comparison.std_error);
  if (comparison.limit) message.set_limit(*comparison.limit);
  message.set_accepted(comparison.accepted);
  return message;
}

// What is said of figures: of an artifact and of an evaluated model.
template <typename Result, typename Message>
void AddJudgement(const Result& from, Message& to) {
  for (const Comparison& comparison : from.comparisons) {
    *to.add_comparisons() = ToProto(comparison);
  }
  if (from.verdict.has_value()) {
    v1::Verdict& verdict = *to.mutable_verdict();
    verdict.set_accepted(from.verdict->accepted);
    verdict.mutable_regressions()->Assign(from.verdict->regressions.begin(),
                                          from.verdict->regressions.end());
    verdict.mutable_warnings()->Assign(from.verdict->warnings.begin(),
                                       from.verdict->warnings.end());
  }
  to.mutable_warnings()->Assign(from.warnings.begin(), from.warnings.end());
}

v1::ModelFigures ToProto(const ModelResult& model) {
  v1::ModelFigures message;
  message.set_uri(model.uri);
  message.set_parameters(model.parameters);
  message.set_weight_bytes(model.weight_bytes);
  AddFigures(model.figures, message);
  return message;
}

v1::ArtifactResult ToProto(const ArtifactResult& artifact) {
  v1::ArtifactResult message;
  message.set_keep_ratio(artifact.keep_ratio);
  message.set_uri(artifact.uri);
  message.set_manifest_sha256(artifact.manifest_sha256);
  message.set_parameters(artifact.parameters);
  message.set_compressed_parameters(artifact.compressed_parameters);
  message.set_weight_bytes(artifact.weight_bytes);
  for (const MatrixReport& matrix : artifact.matrices) {
    v1::MatrixReport& added = *message.add_matrices();
    added.set_name(matrix.name);
    added.set_rows(matrix.rows);
    added.set_cols(matrix.cols);
    added.set_rank(matrix.rank);
    added.set_relative_loss(matrix.relative_loss);
    added.set_optimum_loss(matrix.optimum_loss);
    added.set_rounding_excess(matrix.rounding_excess);
  }
  AddFigures(artifact.figures, message);
  AddJudgement(artifact, message);
  return message;
}

v1::CalibrationResult ToProto(const CalibrationUse& calibration) {
  v1::CalibrationResult message;
  message.set_sequences(calibration.sequences);
  message.set_tokens(calibration.tokens);
  for (const DataFile& file : calibration.data) *message.add_data() = ToProto(file);
  for (const std::string& warning : calibration.warnings) message.add_warnings(warning);
  message.set_window_start(ToProto(calibration.window_start));
  return message;
}

// A result that was stored before there were baselines.
void UpgradeResult(v1::EvaluateResult& result) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
  v1::ModelFigures& model = *result.mutable_model();
  model.set_parameters(result.parameters());
  model.set_weight_bytes(result.weight_bytes());
  model.mutable_perplexities()->Swap(result.mutable_perplexities());
  result.clear_parameters();
  result.clear_weight_bytes();
#pragma GCC diagnostic pop
}

// What cannot be read, on a damaged disk say, is left out whole: half of it may hold a text that is
// no UTF-8, and then no client can read the answer that it is a part of, a list of all jobs say.
void ParseStored(const std::string& bytes, google::protobuf::Message& message) {
  if (!message.ParseFromString(bytes)) message.Clear();
}

void AddRequest(const Job& job, v1::Job& message) {
  if (job.kind == JobKind::kCompressModel) {
    ParseStored(job.request, *message.mutable_compress_model_request());
    message.set_display_name(message.compress_model_request().display_name());
  } else if (job.kind == JobKind::kEvaluate) {
    ParseStored(job.request, *message.mutable_evaluate_request());
    message.set_display_name(message.evaluate_request().display_name());
  }
}

// A job that failed has a result where its figures are why.
void AddResult(const Job& job, JobView view, v1::Job& message) {
  if (job.state != JobState::kSucceeded && job.result.empty()) return;
  if (job.kind != JobKind::kEvaluate && job.kind != JobKind::kCompressModel) return;
  if (job.kind == JobKind::kEvaluate) {
    v1::EvaluateResult& result = *message.mutable_evaluate_result();
    ParseStored(job.result, result);
    if (!result.has_model()) UpgradeResult(result);
    if (!result.report_uri().empty()) message.add_artifact_uris(result.report_uri());
    return;
  }
  v1::CompressModelResult& result = *message.mutable_compress_model_result();
  ParseStored(job.result, result);
  for (v1::ArtifactResult& artifact : *result.mutable_artifacts()) {
    if (!artifact.uri().empty()) message.add_artifact_uris(artifact.uri());
    if (view == JobView::kListed) artifact.clear_matrices();
  }
}

// When what was published goes, or that it has gone.
void AddExpiry(const Job& job, v1::Job& message) {
  if (job.ttl_ms == 0 || message.artifact_uris().empty()) return;
  SetTime(job.end_ms + job.ttl_ms, &v1::Job::mutable_artifact_expire_time, message);
  if (job.expired_ms == 0) return;
  message.set_artifacts_expired(true);
  message.clear_artifact_uris();
}

}  // namespace

v1::WindowStart ToProto(const std::optional<WindowStart>& window_start) {
  return window_start ? ValueNamed<v1::WindowStart>(WindowStartName(*window_start))
                      : v1::WINDOW_START_UNSPECIFIED;
}

std::string JobName(const std::string& id) { return "jobs/" + id; }

absl::StatusOr<std::string> ParseJobName(const std::string& name) {
  const std::string id = name.compare(0, 5, "jobs/") == 0 ? name.substr(5) : "";
  if (id.empty() || id.size() > 64 ||
      id.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyz") != std::string::npos) {
    return InvalidFields({{"name", "\"" + name.substr(0, 80) + "\" is not of the form jobs/{id}"}});
  }
  return id;
}

v1::JobError ToProto(const JobError& error) {
  v1::JobError message;
  message.set_code(static_cast<int>(error.code));
  // Stores of earlier versions have longer ones, and what is no UTF-8 no client could read.
  message.set_reason(Shortened(error.reason, kMaxRecordedBytes));
  message.set_message(Shortened(error.message, kMaxRecordedBytes));
  return message;
}

v1::Job ToProto(const Job& job, JobView view) {
  v1::Job message;
  message.set_name(JobName(job.id));
  message.set_kind(static_cast<v1::JobKind>(job.kind));
  message.set_state(static_cast<v1::JobState>(job.state));
  message.set_attempt(job.attempt);
  message.set_max_attempts(kMaxAttempts);
  message.mutable_labels()->insert(job.labels.begin(), job.labels.end());
  SetTime(job.create_ms, &v1::Job::mutable_create_time, message);
  SetTime(job.start_ms, &v1::Job::mutable_start_time, message);
  SetTime(job.update_ms, &v1::Job::mutable_update_time, message);
  SetTime(job.end_ms, &v1::Job::mutable_end_time, message);
  AddRequest(job, message);
  if (!job.progress.empty()) ParseStored(job.progress, *message.mutable_progress());
  if (message.has_progress() && IsTerminal(job.state)) message.mutable_progress()->clear_eta();
  const absl::Status understood = IsTerminal(job.state) ? absl::OkStatus() : CheckUnderstood(job);
  if (job.error.has_value()) {
    *message.mutable_error() = ToProto(*job.error);
  } else if (!understood.ok()) {
    *message.mutable_error() = ToProto(ToJobError(understood));
  }
  AddResult(job, view, message);
  AddExpiry(job, message);
  for (const Attempt& attempt : job.attempts) {
    v1::Attempt& added = *message.add_attempts();
    added.set_number(attempt.number);
    *added.mutable_start_time() = TimeUtil::MillisecondsToTimestamp(attempt.start_ms);
    *added.mutable_end_time() = TimeUtil::MillisecondsToTimestamp(attempt.end_ms);
    added.set_outcome(attempt.outcome);
    if (attempt.error.has_value()) *added.mutable_error() = ToProto(*attempt.error);
  }
  message.set_last_sequence(job.last_sequence);
  if (understood.ok()) message.set_queue_position(job.queue_position);
  message.set_owner(job.owner);
  return message;
}

v1::JobEvent ToProto(const Event& event) {
  v1::JobEvent message;
  message.set_sequence(event.sequence);
  *message.mutable_time() = TimeUtil::MillisecondsToTimestamp(event.time_ms);
  message.set_attempt(event.attempt);
  switch (event.kind) {
    case EventKind::kState:
      message.mutable_state_change()->set_state(static_cast<v1::JobState>(event.state));
      if (event.error.has_value()) {
        *message.mutable_state_change()->mutable_error() = ToProto(*event.error);
      }
      break;
    case EventKind::kProgress:
      ParseStored(event.payload, *message.mutable_progress());
      break;
    case EventKind::kArtifact:
      ParseStored(event.payload, *message.mutable_artifact());
      break;
    case EventKind::kLog:
      ParseStored(event.payload, *message.mutable_log());
      break;
  }
  return message;
}

v1::Progress ToProto(const ProgressEvent& progress) {
  v1::Progress message;
  message.set_stage(progress.stage);
  message.set_module(progress.module);
  message.set_layers_done(progress.layers_done);
  message.set_layers_total(progress.layers_total);
  message.set_percent(progress.percent);
  if (progress.eta_seconds >= 0) *message.mutable_eta() = ToDuration(progress.eta_seconds);
  message.set_peak_host_bytes(progress.peak_host_bytes);
  message.set_peak_device_bytes(progress.peak_device_bytes);
  message.set_message(progress.message);
  return message;
}

v1::CompressModelResult ToProto(const CompressResult& result) {
  v1::CompressModelResult message;
  message.set_resumed_layers(result.resumed_layers);
  message.set_parameters(result.parameters);
  message.set_target_parameters(result.target_parameters);
  message.set_weight_bytes(result.weight_bytes);
  AddFigures(result.before, message);
  for (const ArtifactResult& artifact : result.artifacts) {
    *message.add_artifacts() = ToProto(artifact);
  }
  *message.mutable_calibration() = ToProto(result.calibration);
  for (const StageTime& stage : result.stages) {
    v1::StageTime& added = *message.add_stages();
    added.set_stage(stage.stage);
    added.set_seconds(stage.seconds);
  }
  message.set_peak_host_bytes(result.peak_host_bytes);
  message.set_peak_device_bytes(result.peak_device_bytes);
  message.set_device(result.device);
  return message;
}

v1::EvaluateResult ToProto(const EvaluateResult& result) {
  v1::EvaluateResult message;
  *message.mutable_model() = ToProto(result.model);
  if (result.baseline.has_value()) *message.mutable_baseline() = ToProto(*result.baseline);
  AddJudgement(result, message);
  message.set_report_uri(result.report_uri);
  message.set_manifest_sha256(result.manifest_sha256);
  message.set_peak_host_bytes(result.peak_host_bytes);
  message.set_peak_device_bytes(result.peak_device_bytes);
  message.set_device(result.device);
  return message;
}

// What both kinds of plan say of memory, and their warnings.
template <typename Plan, typename Message>
void AddNeeds(const Plan& plan, Message& message) {
  message.set_peak_host_bytes(plan.host.anonymous + plan.host.mapped);
  message.set_anonymous_host_bytes(plan.host.anonymous);
  message.set_mapped_host_bytes(plan.host.mapped);
  message.set_host_memory_bytes(plan.host.total);
  message.set_peak_device_bytes(plan.peak_device_bytes);
  for (const std::string& warning : plan.warnings) message.add_warnings(warning);
}

void SetTimes(const CompressPlan& plan, v1::CompressionPlan& message) {
  if (plan.expected_seconds <= 0) return;
  *message.mutable_expected_time() = ToDuration(plan.expected_seconds);
  *message.mutable_least_time() = ToDuration(plan.least_seconds);
  *message.mutable_most_time() = ToDuration(plan.most_seconds);
}

v1::CompressionPlan ToProto(const CompressPlan& plan) {
  v1::CompressionPlan message;
  message.set_parameters(plan.parameters);
  message.set_target_parameters(plan.target_parameters);
  message.set_weight_bytes(plan.weight_bytes);
  for (const ArtifactPlan& artifact : plan.artifacts) {
    v1::ArtifactPlan& added = *message.add_artifacts();
    added.set_keep_ratio(artifact.keep_ratio);
    for (const MatrixPlan& matrix : artifact.matrices) {
      v1::MatrixPlan& row = *added.add_matrices();
      row.set_name(matrix.name);
      row.set_rows(matrix.rows);
      row.set_cols(matrix.cols);
      row.set_rank(matrix.rank);
    }
    added.set_parameters(artifact.parameters);
    added.set_weight_bytes(artifact.weight_bytes);
  }
  AddNeeds(plan, message);
  message.set_scratch_bytes(plan.scratch_bytes);
  SetTimes(plan, message);
  message.set_ranks_are_final(plan.ranks_are_final);
  message.set_calibration_sequences(plan.calibration_sequences);
  return message;
}

v1::EvaluationPlan ToProto(const EvaluatePlan& plan) {
  v1::EvaluationPlan message;
  message.set_parameters(plan.parameters);
  message.set_weight_bytes(plan.weight_bytes);
  message.set_baseline_parameters(plan.baseline_parameters);
  message.set_baseline_weight_bytes(plan.baseline_weight_bytes);
  AddNeeds(plan, message);
  return message;
}

}  // namespace svdllm
