#include "server/check_submission.h"

#include <algorithm>
#include <vector>

#include "server/job_proto.h"
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

// Staging is what tells whether an output can be written, short of writing it.
absl::Status CheckOutput(ArtifactStore& artifacts, const std::string& id, const std::string& uri) {
  ASSIGN_OR_RETURN(const std::string staging, artifacts.Stage(uri, "check-" + id + ".0"));
  artifacts.Discard(staging);
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
                   v1::CompressModelRequest& request, v1::Job& preview) {
  RETURN_IF_ERROR(Resolve(artifacts, id, request));
  ASSIGN_OR_RETURN(CompressSpec spec, ToSpec(request, artifacts, ""));
  spec.job_id = id;
  ASSIGN_OR_RETURN(const CompressPlan plan, engine.plan_compress(spec));
  SetSeqLens(plan, request);
  const std::vector<std::string> uris = OutputUris(spec);
  for (const std::string& uri : uris) RETURN_IF_ERROR(CheckOutput(artifacts, id, uri));
  *preview.mutable_plan() = ToProto(plan);
  ASSIGN_OR_RETURN(const std::string default_output, DefaultOutput(artifacts, id));
  if (request.output_uri() == default_output) return absl::OkStatus();
  const int count = std::min(preview.plan().artifacts_size(), static_cast<int>(uris.size()));
  for (int i = 0; i < count; ++i) {
    preview.mutable_plan()->mutable_artifacts(i)->set_uri(uris[static_cast<size_t>(i)]);
  }
  return absl::OkStatus();
}

absl::Status Check(const Engine& engine, ArtifactStore& artifacts, const std::string& id,
                   v1::EvaluateRequest& request, v1::Job& preview) {
  RETURN_IF_ERROR(Resolve(artifacts, id, request));
  ASSIGN_OR_RETURN(EvaluateSpec spec, ToSpec(request, artifacts, ""));
  spec.job_id = id;
  ASSIGN_OR_RETURN(const EvaluatePlan plan, engine.plan_evaluate(spec));
  *preview.mutable_evaluation_plan() = ToProto(plan);
  return CheckOutput(artifacts, id, request.output_uri());
}

}  // namespace

SubmissionChecker CheckHere(const Engine& engine, ArtifactStore& artifacts) {
  const auto check = [&engine, &artifacts](const std::string& id, auto& request, v1::Job& preview) {
    return Check(engine, artifacts, id, request, preview);
  };
  return {check, check};
}

}  // namespace svdllm
