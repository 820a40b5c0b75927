// jobs list|get|watch|wait|retry|cancel|delete and server-info.
#include <algorithm>
#include <chrono>
#include <memory>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/enum_names.h"
#include "client/cli/follow.h"
#include "client/cli/submit.h"
#include "client/cli/text_output.h"

namespace svdllm::cli {
namespace {

constexpr int64_t kPageSize = 200;  // what the server gives at most
constexpr double kForeverSeconds = 1e9;

struct ListFlags {
  v1::ListJobsRequest request;
  int64_t limit = 50;
  bool oldest_first = false;
};

absl::StatusOr<int> List(CommandContext& context, const ListFlags& flags) {
  v1::ListJobsRequest request = flags.request;
  if (flags.oldest_first) request.set_order_by("create_time");
  v1::ListJobsResponse all;
  do {
    const int64_t left = flags.limit == 0 ? kPageSize : flags.limit - all.jobs_size();
    request.set_page_size(static_cast<int32_t>(std::min(left, kPageSize)));
    ASSIGN_OR_RETURN(const v1::ListJobsResponse page, context.client.ListJobs(request));
    all.MergeFrom(page);
    all.set_next_page_token(page.next_page_token());  // merging keeps the old one where it is empty
    request.set_page_token(page.next_page_token());
  } while (!all.next_page_token().empty() && (flags.limit == 0 || all.jobs_size() < flags.limit));
  context.Print(all, [&](const v1::ListJobsResponse& list) {
    return JobList(list, context.environment.out_columns);
  });
  if (!context.json && !all.next_page_token().empty()) {
    context.say(absl::StrCat("There are more: --limit=0, or --page_token=", all.next_page_token()));
  }
  return kExitOk;
}

CommandAction DefineList(FlagSet& flags) {
  const auto given = std::make_shared<ListFlags>();
  v1::ListJobsRequest* const request = &given->request;
  flags.Group("Which");
  flags.AddEnums<v1::JobState>("state", "Only jobs in this state, or one of these. Default: any.",
                               [=](v1::JobState state) { request->add_states(state); });
  flags.AddEnums<v1::JobKind>("kind", "Only jobs of this kind. Default: any.",
                              [=](v1::JobKind kind) { request->add_kinds(kind); });
  flags.AddRepeated({"label", "KEY=VALUE", "Only jobs that carry this label. Default: any."},
                    LabelValue([=](const std::string& key, const std::string& value) {
                      (*request->mutable_labels())[key] = value;
                    }));
  flags.Add({"owner", "NAME", "Only jobs that were submitted under this name. Default: anybody's."},
            TextValue(request->mutable_owner()));
  flags.Add({"limit", "N", "Jobs at most; 0: all. Default: 50."},
            IntegerValue(0, [given](int64_t limit) { given->limit = limit; }));
  flags.Switch("oldest_first", &given->oldest_first, "Begins with the oldest job, not the newest.");
  flags.Add({"page_token", "TOKEN",
             "Goes on where an earlier list, with the same filters and order, ended. Default: its "
             "beginning."},
            TextValue(request->mutable_page_token()));
  return [given](CommandContext& context) { return List(context, *given); };
}

// A command on one job, which gets its name: "jobs/ID", of an argument that says that or just "ID".
CommandAction OnJob(FlagSet& flags,
                    std::function<absl::StatusOr<int>(CommandContext&, const std::string&)> run) {
  const auto name = std::make_shared<std::string>();
  flags.Argument("NAME", name.get());
  return [name, run = std::move(run)](CommandContext& context) {
    return run(context, absl::StartsWith(*name, "jobs/") ? *name : "jobs/" + *name);
  };
}

CommandAction DefineGet(FlagSet& flags) {
  return OnJob(flags, [](CommandContext& context, const std::string& name) -> absl::StatusOr<int> {
    ASSIGN_OR_RETURN(const v1::Job job, context.client.GetJob(name));
    context.Print(job, &JobDetails);
    return kExitOk;
  });
}

CommandAction DefineWatch(FlagSet& flags) {
  const auto after = std::make_shared<int64_t>(0);
  flags.Group("From where");
  flags.Add({"after_sequence", "N",
             "Only events with a greater sequence number. Default: 0, the whole history."},
            IntegerValue(0, [after](int64_t sequence) { *after = sequence; }));
  return OnJob(flags, [after](CommandContext& context, const std::string& name) {
    return context.json ? StreamEvents(context, name, *after) : FollowJob(context, name, *after);
  });
}

CommandAction DefineWait(FlagSet& flags) {
  const auto seconds = std::make_shared<double>(kForeverSeconds);
  flags.Group("How long");
  flags.Add(
      {"timeout", "DURATION",
       "Where the job has not ended by then, the exit status is 6. Default: as long as it "
       "takes."},
      DurationValue([seconds](double given) { *seconds = std::min(given, kForeverSeconds); }));
  return OnJob(
      flags, [seconds](CommandContext& context, const std::string& name) -> absl::StatusOr<int> {
        const auto timeout = std::chrono::milliseconds(static_cast<int64_t>(*seconds * 1000));
        ASSIGN_OR_RETURN(const v1::Job job, context.client.Wait(name, timeout));
        context.Print(job, &JobSummary);
        return HasEnded(job) ? ExitStatusOf(job) : kExitNotEnded;
      });
}

CommandAction DefineRetry(FlagSet& flags) {
  const auto given = std::make_shared<JobFlags>();
  flags.Group("Job");
  AddOutputFlag(flags, given.get());
  AddFollowFlags(flags, given.get());
  return OnJob(flags, [given](CommandContext& context, const std::string& name) {
    return Retry(context, *given, name);
  });
}

CommandAction DefineCancel(FlagSet& flags) {
  return OnJob(flags, [](CommandContext& context, const std::string& name) -> absl::StatusOr<int> {
    ASSIGN_OR_RETURN(const v1::Job job, context.client.CancelJob(name));
    context.Print(job, [](const v1::Job& cancelled) {
      return absl::StrCat(cancelled.name(), " is ", ShortName(cancelled.state()), "\n");
    });
    return kExitOk;
  });
}

CommandAction DefineDelete(FlagSet& flags) {
  return OnJob(flags, [](CommandContext& context, const std::string& name) -> absl::StatusOr<int> {
    RETURN_IF_ERROR(context.client.DeleteJob(name));
    context.environment.out << (context.json ? "{}\n"
                                             : Printable(absl::StrCat(name, " is deleted\n")))
                            << std::flush;
    return kExitOk;
  });
}

CommandAction DefineServerInfo(FlagSet&) {
  return [](CommandContext& context) -> absl::StatusOr<int> {
    ASSIGN_OR_RETURN(const v1::ServerInfo info, context.client.GetServerInfo());
    context.Print(info, &ServerInfoText);
    return kExitOk;
  };
}

}  // namespace

std::vector<CommandSpec> JobCommands() {
  return {
      {"jobs list", "", "Lists jobs, newest first.",
       "Lists jobs, newest first. JSON: {\"jobs\": [...], \"nextPageToken\"}.", &DefineList},
      {"jobs get", "NAME", "Prints a job: request, state, attempts, result.",
       "Prints a job, named jobs/ID or ID. The exit status says whether it was found, not how it "
       "ended.",
       &DefineGet},
      {"jobs watch", "NAME", "Shows a job's progress until it has ended, then its result.",
       "Shows what has happened to a job, then what happens, until it has ended; a lost connection "
       "is taken up where it broke. JSON: one event a line, nothing else.",
       &DefineWatch},
      {"jobs wait", "NAME", "Waits until a job has ended, then prints its result.",
       "Waits until a job has ended, and shows nothing meanwhile. It asks again and again, so that "
       "it "
       "gets through where a stream does not; a lost connection is taken up again.",
       &DefineWait},
      {"jobs retry", "NAME", "Submits the request of a job that has ended once more.",
       "Submits the request of a job that has ended once more, with the defaults that were filled "
       "in "
       "then, as a new job. An output that was named after the job will be named after the new "
       "one.",
       &DefineRetry},
      {"jobs cancel", "NAME", "Cancels a queued or running job.",
       "Asks for a job's cancellation. A running job stops within seconds; watch it to see when.",
       &DefineCancel},
      {"jobs delete", "NAME", "Forgets a job that has ended. Its artifacts stay.",
       "Forgets a job that has ended, with its history. Its artifacts stay.", &DefineDelete},
      {"server-info", "", "Prints what the server is and can do.",
       "Prints what the server is and can do: its devices, the methods, allocations, encodings, "
       "output formats and tasks that it has, and its limits.",
       &DefineServerInfo},
  };
}

}  // namespace svdllm::cli
