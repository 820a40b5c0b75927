// jobs list|get|watch|cancel|delete and server-info.
#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/enum_names.h"
#include "client/cli/follow.h"
#include "client/cli/json_output.h"
#include "client/cli/text_output.h"

namespace svdllm::cli {
namespace {

constexpr int64_t kPageSize = 200;  // what the server gives at most

FlagTable ListFlags() {
  return {
      {"Which",
       {{"state", FlagType::kChoice, "QUEUED|RUNNING|CANCELLING|SUCCEEDED|FAILED|CANCELLED", "",
         "Only jobs in this state, or one of these.", true},
        {"kind", FlagType::kChoice, "COMPRESS_MODEL|EVALUATE", "", "Only jobs of this kind.", true},
        {"label", FlagType::kLabel, "KEY=VALUE", "", "Only jobs that carry this label.", true},
        {"limit", FlagType::kInteger, "N", "50", "Jobs at most, newest first; 0: all."},
        {"page_token", FlagType::kText, "TOKEN", "",
         "Goes on where an earlier list, with the same filters, ended."}}}};
}

absl::StatusOr<int> List(CommandContext& context) {
  const Flags& flags = context.flags;
  v1::ListJobsRequest request;
  for (const std::string& name : flags.Texts("state")) {
    request.add_states(FromShortName<v1::JobState>(name));
  }
  for (const std::string& name : flags.Texts("kind")) {
    request.add_kinds(FromShortName<v1::JobKind>(name));
  }
  for (const auto& [key, value] : flags.Labels("label")) (*request.mutable_labels())[key] = value;
  request.set_page_token(flags.Text("page_token"));
  const int64_t limit = flags.Integer("limit");
  v1::ListJobsResponse all;
  do {
    const int64_t left = limit == 0 ? kPageSize : limit - all.jobs_size();
    request.set_page_size(static_cast<int32_t>(std::min(left, kPageSize)));
    ASSIGN_OR_RETURN(const v1::ListJobsResponse page, context.client.ListJobs(request));
    all.MergeFrom(page);
    all.set_next_page_token(page.next_page_token());  // merging keeps the old one where it is empty
    request.set_page_token(page.next_page_token());
  } while (!all.next_page_token().empty() && (limit == 0 || all.jobs_size() < limit));
  context.environment.out << (context.json ? ToJson(all) : JobList(all)) << std::flush;
  if (!context.json && !all.next_page_token().empty()) {
    context.say(absl::StrCat("There are more: --limit=0, or --page_token=", all.next_page_token()));
  }
  return kExitOk;
}

absl::StatusOr<int> Get(CommandContext& context) {
  ASSIGN_OR_RETURN(const v1::Job job, context.client.GetJob(NameArgument(context.flags)));
  context.environment.out << (context.json ? ToJson(job) : JobDetails(job)) << std::flush;
  return kExitOk;
}

absl::StatusOr<int> Watch(CommandContext& context) {
  const std::string name = NameArgument(context.flags);
  const int64_t after_sequence = context.flags.Integer("after_sequence");
  return context.json ? StreamEvents(context, name, after_sequence)
                      : FollowJob(context, name, after_sequence);
}

absl::StatusOr<int> Cancel(CommandContext& context) {
  ASSIGN_OR_RETURN(const v1::Job job, context.client.CancelJob(NameArgument(context.flags)));
  context.environment.out << (context.json
                                  ? ToJson(job)
                                  : absl::StrCat(job.name(), " is ", ShortName(job.state()), "\n"))
                          << std::flush;
  return kExitOk;
}

absl::StatusOr<int> Delete(CommandContext& context) {
  const std::string name = NameArgument(context.flags);
  RETURN_IF_ERROR(context.client.DeleteJob(name));
  context.environment.out << (context.json ? "{}\n" : absl::StrCat(name, " is deleted\n"))
                          << std::flush;
  return kExitOk;
}

absl::StatusOr<int> ServerInfo(CommandContext& context) {
  ASSIGN_OR_RETURN(const v1::ServerInfo info, context.client.GetServerInfo());
  context.environment.out << (context.json ? ToJson(info) : ServerInfoText(info)) << std::flush;
  return kExitOk;
}

}  // namespace

std::vector<CommandSpec> JobCommands() {
  const FlagTable watch_flags = {
      {"From where",
       {{"after_sequence", FlagType::kInteger, "N", "0",
         "Only events with a greater sequence number; 0: the whole history."}}}};
  return {
      {"jobs list", "", "Lists jobs, newest first.",
       "Lists jobs, newest first. JSON: {\"jobs\": [...], \"nextPageToken\"}.", ListFlags(), false,
       &List},
      {"jobs get",
       "NAME",
       "Prints a job: request, state, attempts, result.",
       "Prints a job, named jobs/ID or ID. The exit status says whether it was found, not how it "
       "ended.",
       {},
       true,
       &Get},
      {"jobs watch", "NAME", "Shows a job's progress until it has ended, then its result.",
       "Shows what has happened to a job, then what happens, until it has ended; a lost connection "
       "is "
       "taken up where it broke. JSON: one event a line, nothing else.",
       watch_flags, true, &Watch},
      {"jobs cancel",
       "NAME",
       "Cancels a queued or running job.",
       "Asks for a job's cancellation. A running job stops within seconds; watch it to see when.",
       {},
       true,
       &Cancel},
      {"jobs delete",
       "NAME",
       "Forgets a job that has ended. Its artifacts stay.",
       "Forgets a job that has ended, with its history. Its artifacts stay.",
       {},
       true,
       &Delete},
      {"server-info",
       "",
       "Prints what the server is and can do.",
       "Prints what the server is and can do.",
       {},
       false,
       &ServerInfo},
  };
}

}  // namespace svdllm::cli
