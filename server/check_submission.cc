#include "server/check_submission.h"

#include <algorithm>
#include <vector>

#include "base/map_guard.h"
#include "server/job_proto.h"
#include "server/run_job.h"
#include "server/spec_proto.h"
#include "server/tidy_texts.h"
#include "tasks/text_tasks.h"

namespace svdllm {
namespace {

absl::StatusOr<std::string> DefaultOutput(const ArtifactStore& artifacts, const std::string& id) {
  return artifacts.ResolveOutput(artifacts.DefaultOutput(id));
}

template <typename Request>
absl::Status Resolve(const ArtifactStore& artifacts, const std::string& id, Request& request) {
  ASSIGN_OR_RETURN(const std::string output, DefaultOutput(artifacts, id));
  return ResolveRequest(artifacts, output, request);
}

absl::Status CheckOutputs(ArtifactStore& artifacts, const std::string& id,
                          const std::vector<std::string>& outputs) {
  for (const std::string& uri : outputs) {
    // Staging is what tells whether an output can be written, short of writing it.
    const auto staging = artifacts.Stage(uri, "check-" + id + ".0");
    if (!staging.ok()) return WithOffender(staging.status(), "output", uri);
    artifacts.Discard(*staging);
  }
  return absl::OkStatus();
}

// What was left open of windows, of calibration or of a task.
template <typename Message>
void SetWindows(const TextPlan& plan, Message& message) {
  message.set_seq_len(plan.seq_len);
  message.set_window_start(ToProto(plan.window_start));
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

absl::Status Check(const Engine& engine, ArtifactStore& artifacts, const JobVolumes& volumes,
                   const std::string& id, v1::CompressModelRequest& request,
                   CheckedSubmission& checked) {
  RETURN_IF_ERROR(Resolve(artifacts, id, request));
  ASSIGN_OR_RETURN(CompressSpec spec, ToSpec(request, artifacts, ""));
  spec.job_id = id;
  ASSIGN_OR_RETURN(CompressPlan plan, engine.plan_compress(spec));
  ASSIGN_OR_RETURN(const std::string warning, CheckVolumes(NeedsOf(plan), volumes));
  if (!warning.empty()) {
    plan.warnings.push_back(warning +
                            "; the job fails with SCRATCH_FULL unless there is room when "
                            "it starts");
  }
  if (request.has_calibration()) SetWindows(plan.calibration, *request.mutable_calibration());
  SetMeasured(plan, *request.mutable_evaluation());
  checked.outputs = OutputUris(spec);
  RETURN_IF_ERROR(CheckOutputs(artifacts, id, checked.outputs));
  for (const DeviceInfo& device : engine.devices) {
    checked.jobs_like.push_back(JobsLike(spec, device));
  }
  checked.work = plan.work;
  v1::CompressionPlan& shown = *checked.preview.mutable_plan();
  shown = ToProto(plan);
  ASSIGN_OR_RETURN(const std::string default_output, DefaultOutput(artifacts, id));
  if (request.output_uri() == default_output) return absl::OkStatus();
  const int count = std::min(shown.artifacts_size(), static_cast<int>(checked.outputs.size()));
  for (int i = 0; i < count; ++i) {
    shown.mutable_artifacts(i)->set_uri(checked.outputs[static_cast<size_t>(i)]);
  }
  return absl::OkStatus();
}

absl::Status Check(const Engine& engine, ArtifactStore& artifacts, const JobVolumes&,
                   const std::string& id, v1::EvaluateRequest& request,
                   CheckedSubmission& checked) {
  RETURN_IF_ERROR(Resolve(artifacts, id, request));
  ASSIGN_OR_RETURN(EvaluateSpec spec, ToSpec(request, artifacts, ""));
  spec.job_id = id;
  ASSIGN_OR_RETURN(const EvaluatePlan plan, engine.plan_evaluate(spec));
  SetMeasured(plan, request);
  *checked.preview.mutable_evaluation_plan() = ToProto(plan);
  checked.outputs = {request.output_uri()};
  return CheckOutputs(artifacts, id, checked.outputs);
}

}  // namespace

SubmissionChecker CheckHere(const Engine& engine, ArtifactStore& artifacts,
                            const JobVolumes& volumes) {
  const auto check = [&engine, &artifacts, volumes](const std::string& id, auto& request,
                                                    CheckedSubmission& checked) {
    ResetMapGuard();
    const absl::Status status = Check(engine, artifacts, volumes, id, request, checked);
    RETURN_IF_ERROR(CheckMaps());
    TidyTexts(checked.preview);
    return status;
  };
  return {check, check};
}

}  // namespace svdllm
