#include "server/job_api.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <utility>

#include "base/digest.h"
#include "pipeline/supported.h"
#include "server/enum_rows.h"
#include "server/job_proto.h"
#include "server/known_parts.h"
#include "server/spec_proto.h"
#include "server/status_proto.h"
#include "tasks/text_tasks.h"

namespace svdllm {
namespace {

constexpr int kDefaultPageSize = 50;
constexpr int kMaxPageSize = 200;

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

// Of the request as it was sent: what it resolves to may change with the server's defaults.
template <typename Request>
std::string PayloadDigest(JobKind kind, Request request) {
  request.clear_request_id();
  return Sha256(std::to_string(static_cast<int>(kind)) + SerializeDeterministic(request));
}

absl::StatusOr<std::string> DefaultOutput(const ArtifactStore& artifacts, const std::string& id) {
  return artifacts.ResolveOutput(artifacts.DefaultOutput(id));
}

template <typename Request>
absl::Status Resolve(const ArtifactStore& artifacts, const std::string& id, Request& request) {
  ASSIGN_OR_RETURN(const std::string output, DefaultOutput(artifacts, id));
  return ResolveRequest(artifacts, output, request);
}

// Staging is what tells whether an output can be written, short of writing it.
absl::Status CheckOutput(ArtifactStore& artifacts, const std::string& id, const std::string& uri) {
  ASSIGN_OR_RETURN(const std::string staging, artifacts.Stage(uri, "check-" + id + ".0"));
  artifacts.Discard(staging);
  return absl::OkStatus();
}

// What was left open of windows, of calibration or of a task.
template <typename Message>
void SetWindows(const TextPlan& plan, Message& message) {
  message.set_seq_len(plan.seq_len);
  message.set_window_start(plan.window_start
                               ? ValueNamed<v1::WindowStart>(WindowStartName(*plan.window_start))
                               : v1::WINDOW_START_UNSPECIFIED);
}

// What of a request's measurements was left open, and means something only for the model. The plan
// has one for each text of the specification, which are the tasks that read a text, in their order.
template <typename Plan, typename Measurements>
void SetMeasured(const Plan& plan, Measurements& measurements) {
  auto text = plan.texts.begin();
  for (v1::EvaluationTask& task : *measurements.mutable_tasks()) {
    if (FindTextTask(task.name()) != nullptr && text != plan.texts.end()) SetWindows(*text++, task);
  }
  if (measurements.has_throughput()) {
    measurements.mutable_throughput()->set_prompt_tokens(plan.prompt_tokens);
  }
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

JobApi::JobApi(JobStore& store, ArtifactStore& artifacts, const Engine& engine, ApiOptions options)
    : store_(store), artifacts_(artifacts), engine_(engine), options_(std::move(options)) {}

absl::Status JobApi::Check(v1::CompressModelRequest& request, const std::string& id,
                           v1::Job& preview) {
  ASSIGN_OR_RETURN(CompressSpec spec, ToSpec(request, artifacts_, ""));
  spec.job_id = id;
  ASSIGN_OR_RETURN(const CompressPlan plan, engine_.plan_compress(spec));
  if (request.has_calibration()) SetWindows(plan.calibration, *request.mutable_calibration());
  SetMeasured(plan, *request.mutable_evaluation());
  const std::vector<std::string> uris = OutputUris(spec);
  for (const std::string& uri : uris) RETURN_IF_ERROR(CheckOutput(artifacts_, id, uri));
  *preview.mutable_plan() = ToProto(plan);
  ASSIGN_OR_RETURN(const std::string default_output, DefaultOutput(artifacts_, id));
  if (request.output_uri() == default_output) return absl::OkStatus();
  const int count = std::min(preview.plan().artifacts_size(), static_cast<int>(uris.size()));
  for (int i = 0; i < count; ++i) {
    preview.mutable_plan()->mutable_artifacts(i)->set_uri(uris[static_cast<size_t>(i)]);
  }
  return absl::OkStatus();
}

absl::Status JobApi::Check(v1::EvaluateRequest& request, const std::string& id, v1::Job& preview) {
  ASSIGN_OR_RETURN(EvaluateSpec spec, ToSpec(request, artifacts_, ""));
  spec.job_id = id;
  ASSIGN_OR_RETURN(const EvaluatePlan plan, engine_.plan_evaluate(spec));
  SetMeasured(plan, request);
  *preview.mutable_evaluation_plan() = ToProto(plan);
  return CheckOutput(artifacts_, id, request.output_uri());
}

template <typename Request>
absl::StatusOr<v1::Job> JobApi::Submit(JobKind kind, const Request& request) {
  NewJob job;
  job.id = NewJobId();
  job.kind = kind;
  job.request_id = request.request_id();
  job.payload_digest = PayloadDigest(kind, request);
  if (!request.validate_only()) {
    // First, because a repeated submission has nothing to do with how the world looks by now.
    ASSIGN_OR_RETURN(const auto known, store_.FindRequest(job.request_id, job.payload_digest));
    if (known.has_value()) return ToProto(*known);
  }
  Request resolved = request;
  resolved.clear_validate_only();
  RETURN_IF_ERROR(Resolve(artifacts_, job.id, resolved));
  v1::Job preview;
  RETURN_IF_ERROR(Check(resolved, job.id, preview));
  if (request.validate_only()) {
    preview.set_kind(static_cast<v1::JobKind>(kind));
    *preview.mutable_labels() = request.labels();
    // A default output is named after a job, and there will be none.
    if (request.output_uri().empty()) resolved.clear_output_uri();
    SetRequest(resolved, preview);
    return preview;
  }
  job.labels.insert(request.labels().begin(), request.labels().end());
  job.timeout_ms = google::protobuf::util::TimeUtil::DurationToMilliseconds(request.timeout());
  job.request = resolved.SerializeAsString();
  ASSIGN_OR_RETURN(const CreateResult created, store_.Create(job, options_.max_queued));
  return ToProto(created.job);
}

absl::StatusOr<v1::Job> JobApi::CompressModel(const v1::CompressModelRequest& request) {
  return Submit(JobKind::kCompressModel, request);
}

absl::StatusOr<v1::Job> JobApi::Evaluate(const v1::EvaluateRequest& request) {
  return Submit(JobKind::kEvaluate, request);
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
  query.labels.insert(request.labels().begin(), request.labels().end());
  if (!violations.empty()) return InvalidFields(violations);
  ASSIGN_OR_RETURN(const ListPage page, store_.List(query));
  v1::ListJobsResponse response;
  for (const Job& job : page.jobs) *response.add_jobs() = ToProto(job, JobView::kListed);
  response.set_next_page_token(page.next_page_token);
  return response;
}

absl::StatusOr<v1::Job> JobApi::CancelJob(const v1::CancelJobRequest& request) {
  RETURN_IF_ERROR(CheckKnown(request));
  ASSIGN_OR_RETURN(const std::string id, ParseJobName(request.name()));
  ASSIGN_OR_RETURN(const Job job, store_.Cancel(id));
  return ToProto(job);
}

absl::Status JobApi::DeleteJob(const v1::DeleteJobRequest& request) {
  RETURN_IF_ERROR(CheckKnown(request));
  ASSIGN_OR_RETURN(const std::string id, ParseJobName(request.name()));
  return store_.Delete(id);
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
  *limits.mutable_lease_duration() =
      google::protobuf::util::TimeUtil::MillisecondsToDuration(options_.lease_ms);
  for (const std::string& name : SupportedFamilies()) info.add_families(name);
  AddValues<v1::Method>(Methods(), *info.mutable_methods());
  AddValues<v1::Allocation>(Allocations(), *info.mutable_allocations());
  AddValues<v1::Encoding>(Encodings(), *info.mutable_encodings());
  AddValues<v1::OutputFormat>(OutputFormats(), *info.mutable_output_formats());
  for (const std::string& name : SupportedTasks()) info.add_tasks(name);
  info.set_artifact_root(options_.artifact_root);
  return info;
}

}  // namespace svdllm
