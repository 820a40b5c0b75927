#include "server/check_submission.h"

#include <algorithm>
#include <vector>

#include "server/job_proto.h"
#include "server/run_job.h"
#include "server/spec_proto.h"
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

// What lengths of 0 mean for the model. The plan has one for each text of the specification, which
// are the tasks that read a text, in their order.
void SetSeqLens(const CompressPlan& plan, v1::CompressModelRequest& request) {
  request.mutable_calibration()->set_seq_len(plan.calibration_seq_len);
  v1::ReportEvaluation& evaluation = *request.mutable_evaluation();
  auto seq_len = plan.text_seq_lens.begin();
  const auto end = plan.text_seq_lens.end();
  for (v1::EvaluationTask& task : *evaluation.mutable_tasks()) {
    if (FindTextTask(task.name()) != nullptr && seq_len != end) task.set_seq_len(*seq_len++);
  }
  if (evaluation.has_throughput()) {
    evaluation.mutable_throughput()->set_prompt_tokens(plan.prompt_tokens);
  }
}

absl::Status Check(const Engine& engine, ArtifactStore& artifacts, const std::string& id,
                   v1::CompressModelRequest& request, CheckedSubmission& checked) {
  RETURN_IF_ERROR(Resolve(artifacts, id, request));
  ASSIGN_OR_RETURN(CompressSpec spec, ToSpec(request, artifacts, ""));
  spec.job_id = id;
  ASSIGN_OR_RETURN(const CompressPlan plan, engine.plan_compress(spec));
  SetSeqLens(plan, request);
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

absl::Status Check(const Engine& engine, ArtifactStore& artifacts, const std::string& id,
                   v1::EvaluateRequest& request, CheckedSubmission& checked) {
  RETURN_IF_ERROR(Resolve(artifacts, id, request));
  ASSIGN_OR_RETURN(EvaluateSpec spec, ToSpec(request, artifacts, ""));
  spec.job_id = id;
  ASSIGN_OR_RETURN(const EvaluatePlan plan, engine.plan_evaluate(spec));
  *checked.preview.mutable_evaluation_plan() = ToProto(plan);
  checked.outputs = {request.output_uri()};
  return CheckOutputs(artifacts, id, checked.outputs);
}

}  // namespace

SubmissionChecker CheckHere(const Engine& engine, ArtifactStore& artifacts) {
  const auto check = [&engine, &artifacts](const std::string& id, auto& request,
                                           CheckedSubmission& checked) {
    return Check(engine, artifacts, id, request, checked);
  };
  return {check, check};
}

}  // namespace svdllm
