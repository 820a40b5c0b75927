#include "server/job_api.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <utility>

#include "base/digest.h"
#include "base/logging.h"
#include "pipeline/estimate.h"
#include "pipeline/supported.h"
#include "server/enum_rows.h"
#include "server/job_proto.h"
#include "server/known_parts.h"
#include "server/run_job.h"
#include "server/spec_proto.h"
#include "server/status_proto.h"
#include "server/tidy_texts.h"
#include "tasks/text_tasks.h"

namespace svdllm {
namespace {

constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 200;
constexpr size_t kLoggedBytes = 64;  // of a text that may be anything yet
constexpr char kNewestFirst[] = "create_time desc";
constexpr char kOldestFirst[] = "create_time";
// Every client takes a message of 4 MiB. A job in a list has a tag and a length beside itself.
constexpr size_t kMaxListBytes = size_t{3} << 20, kJobOverhead = 8;

// The same for equal messages: maps are written in the order of their keys.
std::string SerializeDeterministic(const google::protobuf::MessageLite& message) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    message.SerializeToCodedStream(&coded);
  }
  return bytes;
}

// Of the request as it was sent: what it resolves to may change with the server's defaults. The
// same from somebody else is another request, so that nobody gets another's job for their own.
template <typename Request>
std::string PayloadDigest(JobKind kind, const std::string& owner, Request request) {
  request.clear_request_id();
  const std::string whose = owner.empty() ? "" : owner + "\n";
  return Sha256(whose + std::to_string(static_cast<int>(kind)) + SerializeDeterministic(request));
}

absl::Status Forbidden(const std::string& why) {
  return MakeError(absl::StatusCode::kPermissionDenied, kForbidden, why);
}

// What a line of the log says of a caller.
LogFields Fields(const Caller& caller) {
  LogFields fields = {{"peer", caller.peer}};
  if (!caller.name.empty()) fields.emplace_back("caller", caller.name);
  return fields;
}

std::string BaselineOf(const v1::CompressModelRequest&) { return ""; }
std::string BaselineOf(const v1::EvaluateRequest& request) { return request.baseline(); }

// An error that is about a model, with the model's name.
template <typename Request>
absl::Status NameModel(const absl::Status& status, const Request& request) {
  const std::string reason = ErrorReason(status);
  for (const std::string_view about :
       {kModelNotFound, kModelCorrupt, kUnsupportedArchitecture, kUnsupportedTokenizer}) {
    if (reason != about) continue;
    const bool second = std::string(status.message()).starts_with("baseline");
    return WithOffender(status, "model", second ? BaselineOf(request) : request.model());
  }
  return status;
}

void SetRequest(const v1::CompressModelRequest& request, v1::Job& job) {
  *job.mutable_compress_model_request() = request;
}

void SetRequest(const v1::EvaluateRequest& request, v1::Job& job) {
  *job.mutable_evaluate_request() = request;
}

// What a list is narrowed to. Values without a name are violations already; 0 names nothing.
template <typename Value>
void AddChosen(const std::string& field, const google::protobuf::RepeatedField<int>& asked,
               std::vector<Value>& chosen, std::vector<FieldViolation>& violations) {
  for (int i = 0; i < asked.size() && violations.size() < kMaxViolations; ++i) {
    if (asked[i] == 0) {
      violations.push_back({field + "[" + std::to_string(i) + "]", "names none"});
    }
    const auto value = static_cast<Value>(asked[i]);
    if (std::find(chosen.begin(), chosen.end(), value) == chosen.end()) chosen.push_back(value);
  }
}

// What this server can: a value for each row of a table.
template <typename Enum, typename Row>
void AddValues(std::span<const Row> rows, google::protobuf::RepeatedField<int>& values) {
  for (const Row& row : rows) {
    if (const Enum value = ValueNamed<Enum>(row.name); value != 0) values.Add(value);
  }
}

}  // namespace

JobApi::JobApi(JobStore& store, const Engine& engine, SubmissionChecker checker, ApiOptions options)
    : store_(store), engine_(engine), checker_(std::move(checker)), options_(std::move(options)) {}

absl::Status JobApi::Check(const std::string& id, v1::CompressModelRequest& request,
                           CheckedSubmission& checked) {
  return checker_.compress(id, request, checked);
}

absl::Status JobApi::Check(const std::string& id, v1::EvaluateRequest& request,
                           CheckedSubmission& checked) {
  return checker_.evaluate(id, request, checked);
}

absl::Status JobApi::AddTimes(CheckedSubmission& checked) {
  if (checked.work <= 0) return absl::OkStatus();
  CompressPlan plan;
  plan.work = checked.work;
  const bool on_cpu = std::all_of(engine_.devices.begin(), engine_.devices.end(),
                                  [](const DeviceInfo& device) { return device.name == "cpu"; });
  if (on_cpu) EstimateTime(MeasureRate(), plan);  // of a device only finished jobs tell
  ASSIGN_OR_RETURN(const std::vector<Timing> timings, store_.Timings(checked.jobs_like));
  std::vector<FinishedWork> finished;
  for (const Timing& timing : timings) finished.push_back({timing.work, timing.seconds});
  CorrectTime(finished, plan);
  SetTimes(plan, *checked.preview.mutable_plan());
  return absl::OkStatus();
}

template <typename Request>
absl::StatusOr<v1::Job> JobApi::Submit(JobKind kind, const Request& request, const Caller& caller,
                                       bool& created) {
  if (caller.access < Access::kSubmit) {
    return Forbidden(caller.name + " has the role read, which submits nothing");
  }
  NewJob job;
  job.owner = caller.name;
  job.id = NewJobId();
  job.kind = kind;
  job.request_id = request.request_id();
  job.payload_digest = PayloadDigest(kind, job.owner, request);
  if (!request.validate_only()) {
    // First, because a repeated submission has nothing to do with how the world looks by now.
    ASSIGN_OR_RETURN(const auto known, store_.FindRequest(job.request_id, job.payload_digest));
    if (known.has_value()) return ToProto(*known);
  }
  Request resolved = request;
  resolved.clear_validate_only();
  CheckedSubmission checked;
  RETURN_IF_ERROR(NameModel(Check(job.id, resolved, checked), resolved));
  v1::Job& preview = checked.preview;
  job.outputs = checked.outputs;
  RETURN_IF_ERROR(store_.CheckOutputs(job.outputs));
  if (request.validate_only()) {
    // Not for a job, whose plan nobody sees: the processor is measured for it.
    RETURN_IF_ERROR(AddTimes(checked));
    preview.set_kind(static_cast<v1::JobKind>(kind));
    *preview.mutable_labels() = request.labels();
    // A default output is named after a job, and there will be none.
    if (request.output_uri().empty()) resolved.clear_output_uri();
    SetRequest(resolved, preview);
    return preview;
  }
  job.labels.insert(request.labels().begin(), request.labels().end());
  job.timeout_ms = google::protobuf::util::TimeUtil::DurationToMilliseconds(request.timeout());
  job.ttl_ms = google::protobuf::util::TimeUtil::DurationToMilliseconds(request.artifact_ttl());
  job.request = resolved.SerializeAsString();
  ASSIGN_OR_RETURN(const CreateResult result, store_.Create(job, options_.max_queued));
  created = result.created;
  return ToProto(result.job);
}

template <typename Request>
absl::StatusOr<v1::Job> JobApi::LoggedSubmit(JobKind kind, const Request& request,
                                             const Caller& caller) {
  bool created = false;
  absl::StatusOr<v1::Job> job = Submit(kind, request, caller, created);
  if (request.validate_only()) return job;  // asks, and changes nothing
  LogFields fields = Fields(caller);
  fields.emplace_back("kind", v1::JobKind_Name(static_cast<int>(kind)));
  if (!request.request_id().empty()) {
    fields.emplace_back("request_id", request.request_id().substr(0, kLoggedBytes));
  }
  if (!job.ok()) {
    const std::string reason = ErrorReason(job.status());
    fields.emplace_back("reason", reason.empty() ? std::string(kInternal) : reason);
    fields.emplace_back("error", ErrorMessage(job.status()));
    Log(LogLevel::kInfo, "submission refused", fields);
  } else if (created) {
    fields.emplace_back("job", job->name().substr(JobName("").size()));
    fields.emplace_back("model", request.model());
    fields.emplace_back("queue_position", job->queue_position());
    Log(LogLevel::kInfo, "job accepted", fields);
  }
  return job;
}

absl::StatusOr<v1::Job> JobApi::CompressModel(const v1::CompressModelRequest& request,
                                              const Caller& caller) {
  return LoggedSubmit(JobKind::kCompressModel, request, caller);
}

absl::StatusOr<v1::Job> JobApi::Evaluate(const v1::EvaluateRequest& request, const Caller& caller) {
  return LoggedSubmit(JobKind::kEvaluate, request, caller);
}

absl::StatusOr<v1::Job> JobApi::GetJob(const v1::GetJobRequest& request) {
  RETURN_IF_ERROR(CheckKnown(request));
  ASSIGN_OR_RETURN(const std::string id, ParseJobName(request.name()));
  ASSIGN_OR_RETURN(const Job job, store_.Get(id));
  return ToProto(job);
}

absl::StatusOr<v1::ListJobsResponse> JobApi::ListJobs(const v1::ListJobsRequest& request) {
  std::vector<FieldViolation> violations = UnknownParts(request);
  if (request.page_size() < 0) violations.push_back({"page_size", "must not be negative"});
  ListQuery query;
  query.page_size =
      request.page_size() > 0 ? std::min(request.page_size(), kMaxPageSize) : kDefaultPageSize;
  query.page_token = request.page_token();
  AddChosen("states", request.states(), query.states, violations);
  AddChosen("kinds", request.kinds(), query.kinds, violations);
  if (request.labels_size() > kMaxLabels) {
    violations.push_back({"labels", "at most " + std::to_string(kMaxLabels) + " labels"});
  }
  query.oldest_first = request.order_by() == kOldestFirst;
  if (!request.order_by().empty() && request.order_by() != kNewestFirst && !query.oldest_first) {
    violations.push_back({"order_by", std::string("must be \"") + kNewestFirst +
                                          "\", as where it " + "is empty, or \"" + kOldestFirst +
                                          "\""});
  }
  query.labels.insert(request.labels().begin(), request.labels().end());
  query.owner = request.owner();
  if (!violations.empty()) return InvalidFields(violations);
  while (true) {
    ASSIGN_OR_RETURN(const ListPage page, store_.List(query));
    v1::ListJobsResponse response;
    size_t bytes = 0;
    for (const Job& job : page.jobs) {
      v1::Job message = ToProto(job, JobView::kListed);
      bytes += message.ByteSizeLong() + kJobOverhead;
      if (bytes > kMaxListBytes && response.jobs_size() > 0) break;
      *response.add_jobs() = std::move(message);
    }
    if (response.jobs_size() == static_cast<int>(page.jobs.size())) {
      response.set_next_page_token(page.next_page_token);
      return response;
    }
    query.page_size = response.jobs_size();  // again, for the token that goes on behind them
  }
}

absl::Status JobApi::CheckMayChange(const std::string& id, const Caller& caller,
                                    const std::string& what) {
  if (caller.access == Access::kAdmin) return absl::OkStatus();
  ASSIGN_OR_RETURN(const Job job, store_.Get(id));
  if (caller.access == Access::kSubmit && job.owner == caller.name) return absl::OkStatus();
  const absl::Status status =
      WithOffender(Forbidden(caller.name + " may not " + what + " " + JobName(id) +
                             (caller.access == Access::kRead ? ": its role is read"
                                                             : ": only its owner and admins may")),
                   "job", JobName(id));
  LogFields fields = Fields(caller);
  fields.emplace_back("job", id);
  fields.emplace_back("what", what);
  Log(LogLevel::kInfo, "call forbidden", fields);
  return status;
}

absl::StatusOr<v1::Job> JobApi::CancelJob(const v1::CancelJobRequest& request,
                                          const Caller& caller) {
  RETURN_IF_ERROR(CheckKnown(request));
  ASSIGN_OR_RETURN(const std::string id, ParseJobName(request.name()));
  RETURN_IF_ERROR(CheckMayChange(id, caller, "cancel"));
  ASSIGN_OR_RETURN(const Job job, store_.Cancel(id));
  LogFields fields = Fields(caller);
  fields.emplace_back("job", id);
  fields.emplace_back("state", JobStateName(job.state));
  Log(LogLevel::kInfo, "job cancelled", fields);
  return ToProto(job);
}

absl::Status JobApi::DeleteJob(const v1::DeleteJobRequest& request, const Caller& caller) {
  RETURN_IF_ERROR(CheckKnown(request));
  ASSIGN_OR_RETURN(const std::string id, ParseJobName(request.name()));
  RETURN_IF_ERROR(CheckMayChange(id, caller, "delete"));
  RETURN_IF_ERROR(store_.Delete(id));
  LogFields fields = Fields(caller);
  fields.emplace_back("job", id);
  Log(LogLevel::kInfo, "job deleted", fields);
  return absl::OkStatus();
}

v1::ServerInfo JobApi::GetServerInfo() const {
  v1::ServerInfo info;
  info.set_version(SVDLLM_VERSION);
  for (const DeviceInfo& device : engine_.devices) {
    v1::Device& added = *info.add_devices();
    added.set_name(device.name);
    added.set_description(device.description);
    added.set_memory_bytes(device.memory_bytes);
    added.set_driver(device.driver);
    added.set_compute_capability(device.compute_capability);
    added.set_memory_limit_bytes(device.memory_limit_bytes);
  }
  v1::Limits& limits = *info.mutable_limits();
  limits.set_max_queued_jobs(options_.max_queued);
  limits.set_max_request_bytes(options_.max_request_bytes);
  limits.set_max_keep_ratios(kMaxKeepRatios);
  limits.set_max_tasks(kMaxTasks);
  limits.set_max_labels(kMaxLabels);
  limits.set_max_page_size(kMaxPageSize);
  limits.set_max_attempts(kMaxAttempts);
  limits.set_max_watchers(static_cast<int32_t>(options_.max_watchers));
  limits.set_max_calls_per_connection(kMostCallsPerConnection);
  *limits.mutable_lease_duration() =
      google::protobuf::util::TimeUtil::MillisecondsToDuration(options_.lease_ms);
  for (const std::string& name : SupportedFamilies()) info.add_families(name);
  AddValues<v1::Method>(Methods(), *info.mutable_methods());
  AddValues<v1::Allocation>(Allocations(), *info.mutable_allocations());
  AddValues<v1::Encoding>(Encodings(), *info.mutable_encodings());
  AddValues<v1::OutputFormat>(OutputFormats(), *info.mutable_output_formats());
  for (const std::string& name : SupportedTasks()) info.add_tasks(name);
  for (const TextTask& task : TextTasks()) info.add_text_tasks(std::string(task.name));
  info.set_artifact_root(options_.artifact_root);
  for (const std::string& root : options_.model_roots) info.add_model_roots(root);
  TidyTexts(info);
  return info;
}

}  // namespace svdllm
