#include "client/cli/follow.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/json_output.h"
#include "client/cli/progress_view.h"
#include "client/cli/text_output.h"

namespace svdllm::cli {
namespace {

constexpr char kRegressed[] = "REGRESSED";  // an artifact lost more than its threshold allows

// What the user can do about a job that goes on without being watched.
std::string HowToGoOn(const CommandContext& context, const std::string& name) {
  const std::string server =
      context.server_is_given ? absl::StrCat(" --server=", context.client.address()) : "";
  return absl::StrCat("The job goes on. To watch or to cancel it:\n  svdllm jobs watch ", name,
                      server, "\n  svdllm jobs cancel ", name, server);
}

// Where in the queue a job is that has just been put there; nothing of a history.
std::string PlaceInQueue(Client& client, const v1::JobEvent& event, const std::string& name) {
  if (event.state_change().state() != v1::JOB_STATE_QUEUED) return "";
  const absl::StatusOr<v1::Job> job = client.GetJob(name);
  return job.ok() ? QueueText(*job) : "";
}

}  // namespace

int ExitStatusOf(const v1::Job& job) {
  if (job.error().reason() == kRegressed) return kExitRegressed;
  if (job.state() == v1::JOB_STATE_FAILED || job.state() == v1::JOB_STATE_CANCELLED)
    return kExitJobFailed;
  const v1::EvaluateResult& result = job.evaluate_result();
  return result.has_verdict() && !result.verdict().accepted() ? kExitRegressed : kExitOk;
}

absl::StatusOr<int> FollowJob(CommandContext& context, const std::string& name,
                              int64_t after_sequence) {
  const CommandEnvironment& environment = context.environment;
  absl::Status watched;
  absl::StatusOr<v1::Job> job;
  {
    ProgressView view(environment.err, environment.err_is_terminal, environment.columns);
    const auto say = std::exchange(context.say, [&](const std::string& text) { view.Say(text); });
    watched = context.client.Watch(name, after_sequence, [&](const v1::JobEvent& event) {
      view.Show(event);
      const std::string place = PlaceInQueue(context.client, event, name);
      if (!place.empty()) view.Say(place);
    });
    if (watched.ok()) job = context.client.GetJob(name);
    context.say = say;
  }
  if (environment.stop.stop_requested()) {
    context.say(HowToGoOn(context, name));
    return kExitInterrupted;
  }
  // A job that is not there does not go on either.
  if (!absl::IsNotFound(watched)) context.note_on_error = HowToGoOn(context, name);
  RETURN_IF_ERROR(watched);
  RETURN_IF_ERROR(job.status());
  context.Print(*job, &JobSummary);
  return ExitStatusOf(*job);
}

absl::StatusOr<int> StreamEvents(CommandContext& context, const std::string& name,
                                 int64_t after_sequence) {
  const CommandEnvironment& environment = context.environment;
  const absl::Status watched =
      context.client.Watch(name, after_sequence, [&](const v1::JobEvent& event) {
        environment.out << ToJson(event, JsonLayout::kOneLine) << std::flush;
      });
  if (environment.stop.stop_requested()) return kExitInterrupted;
  RETURN_IF_ERROR(watched);
  ASSIGN_OR_RETURN(const v1::Job job, context.client.GetJob(name));
  return ExitStatusOf(job);
}

}  // namespace svdllm::cli
