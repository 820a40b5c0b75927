#include "client/cli/submit.h"

#include <filesystem>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/enum_names.h"
#include "client/cli/follow.h"
#include "client/cli/recipe.h"
#include "client/cli/request_inputs.h"
#include "client/cli/text_output.h"

namespace svdllm::cli {
namespace {

bool IsLoopback(const std::string& address) {
  return absl::StartsWith(address, "127.") || absl::StartsWith(address, "localhost:") ||
         absl::StartsWith(address, "[::1]") || absl::StartsWith(address, "unix:");
}

// Whether a message is about this path: "/m: no such directory", "open file:///m: ..."; not about
// "/m/config.json" or "/models/m".
bool IsNamed(const std::string& path, const std::string& message) {
  const size_t at = message.find(path + ":");
  return at == 0 || (at != message.npos && (message[at - 1] == ' ' || message[at - 1] == '/'));
}

// Where the server did not find what may well lie here: whose files it looked for. Of the request's
// inputs it is those that the server's message names.
std::string PathNote(const CommandContext& context, const std::vector<std::string*>& inputs,
                     const absl::Status& error) {
  if (!absl::IsNotFound(error)) return "";
  const bool same_host = IsLoopback(context.client.address());
  std::vector<std::string> paths;
  for (const std::string* input : inputs) {
    std::error_code ignored;
    // On one machine, what exists is also found.
    const bool elsewhere = !same_host || std::filesystem::exists(*input, ignored);
    if (IsLocalPath(*input) && elsewhere && IsNamed(*input, std::string(error.message()))) {
      paths.push_back(*input);
    }
  }
  if (paths.empty()) return "";
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
  if (flags.print_request) {
    Request recipe = request;
    recipe.clear_request_id();  // of one submission
    ASSIGN_OR_RETURN(const std::string text, ToRecipe(recipe));
    context.environment.out << text << std::flush;
    return kExitOk;
  }
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
      Request looked_at = request;
      context.note_on_error = PathNote(context, InputsOf(looked_at), error);
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

// The request of a job that has ended, as a new submission.
template <typename Request>
Request Again(const JobFlags& flags, const std::string& id, Request request) {
  request.set_request_id(flags.request_id.empty() ? NewRequestId() : flags.request_id);
  // Named after the job, as the next will be after its own.
  if (absl::EndsWith(request.output_uri(), "/" + id)) request.clear_output_uri();
  if (!flags.output.empty()) request.set_output_uri(flags.output);
  return request;
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

absl::StatusOr<int> Retry(CommandContext& context, const JobFlags& flags, const std::string& name) {
  ASSIGN_OR_RETURN(const v1::Job job, context.client.GetJob(name));
  if (!HasEnded(job)) {
    return MakeError(absl::StatusCode::kFailedPrecondition, "JOB_STATE",
                     absl::StrCat(name, " has not ended: it is ", ShortName(job.state())));
  }
  const std::string id = name.substr(name.rfind('/') + 1);
  return job.has_evaluate_request()
             ? Submit(context, flags, Again(flags, id, job.evaluate_request()))
             : Submit(context, flags, Again(flags, id, job.compress_model_request()));
}

}  // namespace svdllm::cli
