#include "client/cli/submit.h"

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/follow.h"
#include "client/cli/text_output.h"

namespace svdllm::cli {
namespace {

bool IsLoopback(const std::string& address) {
  return absl::StartsWith(address, "127.") || absl::StartsWith(address, "localhost:") ||
         absl::StartsWith(address, "[::1]") || absl::StartsWith(address, "unix:");
}

template <typename Tasks>
void AddInputs(const Tasks& tasks, std::vector<std::string>* inputs) {
  for (const v1::EvaluationTask& task : tasks) {
    inputs->insert(inputs->end(), {task.dataset().uri(), task.labels_uri(), task.fewshot_uri()});
  }
}

// What the server is to read.
std::vector<std::string> InputsOf(const v1::CompressModelRequest& request) {
  std::vector<std::string> inputs = {request.model(), request.calibration().text().uri()};
  for (const v1::CalibrationSource& source : request.calibration().sources()) {
    inputs.push_back(source.text().uri());
  }
  AddInputs(request.evaluation().tasks(), &inputs);
  return inputs;
}

std::vector<std::string> InputsOf(const v1::EvaluateRequest& request) {
  std::vector<std::string> inputs = {request.model(), request.baseline()};
  AddInputs(request.tasks(), &inputs);
  return inputs;
}

// Where the server did not find what may well lie here: whose files it looked for.
std::string PathNote(const CommandContext& context, const std::vector<std::string>& inputs,
                     const absl::Status& error) {
  const std::string reason = ErrorReason(error);
  if (reason != kModelNotFound && reason != kCalibrationInvalid && reason != kDatasetInvalid &&
      reason != kInvalidField) {
    return "";
  }
  const bool same_host = IsLoopback(context.client.address());
  std::vector<std::string> paths;
  for (const std::string& input : inputs) {
    std::error_code ignored;
    if (!input.empty() && IsLocalPath(input) &&
        (std::filesystem::exists(input, ignored) || !same_host)) {
      paths.push_back(input);
    }
  }
  // On one machine, what exists is also found; a violated field is then something else.
  if (paths.empty() || (reason == kInvalidField && same_host)) return "";
  return absl::StrCat(
      "Paths are looked up by the server, on ", context.client.address(),
      "'s host, where this must exist and be readable: ", absl::StrJoin(paths, ", "));
}

bool ShouldWatch(const CommandContext& context, const JobFlags& flags) {
  if (flags.watch) return true;
  return !flags.detach && context.environment.out_is_terminal &&
         context.environment.err_is_terminal;
}

template <typename Request>
absl::StatusOr<int> SubmitBy(CommandContext& context, const JobFlags& flags, const Request& request,
                             absl::StatusOr<v1::Job> (Client::*call)(Request)) {
  const absl::StatusOr<v1::Job> job = (context.client.*call)(request);
  if (!job.ok()) {
    const absl::Status& error = job.status();
    const bool unknown =
        absl::IsUnavailable(error) || absl::IsDeadlineExceeded(error) || absl::IsCancelled(error);
    if (unknown && !request.validate_only()) {
      context.note_on_error =
          absl::StrCat("Should the server have got it nevertheless: repeated with --request_id=",
                       request.request_id(), " it is the same job.");
    } else {
      context.note_on_error = PathNote(context, InputsOf(request), error);
    }
    return error;
  }
  if (request.validate_only()) {
    context.Print(*job, &PlanText);
    return kExitOk;
  }
  if (!ShouldWatch(context, flags)) {
    context.Print(*job, [](const v1::Job& queued) { return queued.name() + "\n"; });
    return kExitOk;
  }
  context.say(job->name());
  return FollowJob(context, job->name());
}

}  // namespace

absl::StatusOr<int> Submit(CommandContext& context, const JobFlags& flags,
                           const v1::CompressModelRequest& request) {
  return SubmitBy(context, flags, request, &Client::CompressModel);
}

absl::StatusOr<int> Submit(CommandContext& context, const JobFlags& flags,
                           const v1::EvaluateRequest& request) {
  return SubmitBy(context, flags, request, &Client::Evaluate);
}

}  // namespace svdllm::cli
