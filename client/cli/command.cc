#include "client/cli/command.h"

#include <algorithm>
#include <functional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/commands.h"
#include "client/cli/format.h"
#include "client/cli/json_output.h"
#include "client/cli/suggest.h"
#include "client/error.h"

namespace svdllm::cli {
namespace {

constexpr char kUsageReason[] = "USAGE";
constexpr char kDefaultServer[] = "127.0.0.1:7070";

constexpr char kExitStatuses[] =
    "Exit status: 0 done, and the job that was waited for succeeded; 1 that job failed or was\n"
    "cancelled; 2 wrong usage; 3 the server could not be reached; 4 the server refused; 130 "
    "Ctrl-C.\n";

std::vector<CommandSpec> Commands() {
  std::vector<CommandSpec> commands = SubmitCommands();
  for (CommandSpec& command : JobCommands()) commands.push_back(std::move(command));
  return commands;
}

FlagTable FlagsOf(const CommandSpec& command) {
  FlagTable table = command.flags;
  table.push_back(
      {"Flags of every command",
       {{"server", FlagType::kText, "ADDR", kDefaultServer,
         "The server, as host:port. The environment variable SVDLLM_SERVER sets it too."},
        {"format", FlagType::kChoice, "text|json", "text",
         "json: results and errors on standard output as JSON (protobuf's mapping), and nothing "
         "else there."},
        {"rpc_timeout", FlagType::kDuration, "DURATION", "10s",
         "How long to keep trying to get an answer from the server. Does not limit the job."},
        {"help", FlagType::kSwitch, "", "", "Prints this help."}}});
  return table;
}

std::string Overview(const std::vector<CommandSpec>& commands) {
  std::vector<std::vector<std::string>> rows;
  for (const CommandSpec& command : commands)
    rows.push_back({"  " + command.name, command.summary});
  rows.push_back({"  help [COMMAND]", "Explains a command and its flags; so does COMMAND --help."});
  return absl::StrCat("svdllm ", SVDLLM_VERSION,
                      ": compresses language models with SVD-LLM, on a server.\n\n",
                      "Usage: svdllm COMMAND [flags]\n\nCommands:\n", Table(rows),
                      "\nThe server is --server=ADDR, $SVDLLM_SERVER, or ", kDefaultServer,
                      ". svdllm --version prints the version.\n\n", kExitStatuses);
}

std::string CommandHelp(const CommandSpec& command) {
  std::string text = absl::StrCat("Usage: svdllm ", command.name, " ", command.arguments,
                                  command.arguments.empty() ? "" : " ", "[flags]\n\n");
  for (absl::string_view paragraph : absl::StrSplit(command.help, '\n')) {
    // Indented lines are examples, to be copied as they are.
    if (absl::StartsWith(paragraph, "  ")) {
      absl::StrAppend(&text, paragraph, "\n");
    } else {
      text += Wrap(std::string(paragraph), "");
    }
  }
  return absl::StrCat(text, FlagHelp(FlagsOf(command)), "\n", kExitStatuses);
}

// The flags may not have parsed, and the error is to be JSON nevertheless.
bool WantsJson(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] == "--format=json") return true;
    if (arguments[i] == "--format" && i + 1 < arguments.size() && arguments[i + 1] == "json")
      return true;
  }
  return false;
}

int ExitStatusOf(const absl::Status& error, const CommandEnvironment& environment) {
  if (environment.stop.stop_requested()) return kExitInterrupted;
  if (ErrorReason(error) == kUsageReason) return kExitUsage;
  if (absl::IsUnavailable(error) || absl::IsDeadlineExceeded(error)) return kExitUnreachable;
  return kExitRefused;
}

int Fail(const absl::Status& error, const CommandEnvironment& environment, bool json,
         const std::string& note) {
  const int exit_status = ExitStatusOf(error, environment);
  if (json) environment.out << ErrorToJson(error) << std::flush;
  environment.err << "svdllm: "
                  << Printable(exit_status == kExitUsage ? std::string(error.message())
                                                         : DescribeError(error))
                  << "\n";
  if (!note.empty()) environment.err << note << "\n";
  environment.err << std::flush;
  return exit_status;
}

int RunOne(const CommandSpec& command, const std::vector<std::string>& arguments,
           const CommandEnvironment& environment) {
  const bool wants_json = WantsJson(arguments);
  const std::string see_help = absl::StrCat("See svdllm ", command.name, " --help.");
  const auto usage = [&](const std::string& message) {
    return Fail(UsageError(message), environment, wants_json, see_help);
  };
  const absl::StatusOr<Flags> flags = Flags::Parse(FlagsOf(command), arguments);
  if (!flags.ok()) return usage(std::string(flags.status().message()));
  if (flags->On("help")) {
    environment.out << CommandHelp(command) << std::flush;
    return kExitOk;
  }
  const size_t expected = command.takes_name ? 1 : 0;
  if (flags->arguments().size() < expected) return usage("the job's name is missing: jobs/ID");
  if (flags->arguments().size() > expected) {
    return usage(absl::StrCat("unexpected argument '", flags->arguments()[expected], "'"));
  }

  std::string server = flags->Text("server");
  if (!flags->Has("server") && !environment.server.empty()) server = environment.server;
  ClientOptions options;
  options.call_timeout =
      std::chrono::milliseconds(static_cast<int64_t>(flags->Seconds("rpc_timeout") * 1000));
  options.stop = environment.stop;
  std::function<void(const std::string&)> say = [&](const std::string& text) {
    environment.err << Printable(text) << "\n" << std::flush;
  };
  std::string told;
  const Client* used = nullptr;
  options.on_retry = [&](const absl::Status& status) {
    const std::string what = ErrorReason(status).empty()
                                 ? absl::StrCat("no connection to the server at ", used->address())
                                 : DescribeError(status);
    if (what != told) say(absl::StrCat("svdllm: ", what, "; trying again"));
    told = what;
  };
  Client client(server, std::move(options));
  used = &client;
  CommandContext context{environment, *flags, client, flags->Text("format") == "json", say};
  const absl::StatusOr<int> result = command.run(context);
  if (result.ok()) return *result;
  const bool is_usage = ErrorReason(result.status()) == kUsageReason;
  return Fail(result.status(), environment, context.json,
              is_usage ? see_help : context.note_on_error);
}

}  // namespace

absl::Status UsageError(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, kUsageReason, message);
}

std::string NameArgument(const Flags& flags) {
  const std::string& name = flags.arguments().at(0);
  return absl::StartsWith(name, "jobs/") ? name : "jobs/" + name;
}

int RunCommand(const std::vector<std::string>& arguments, const CommandEnvironment& environment) {
  const std::vector<CommandSpec> commands = Commands();
  std::vector<std::string> words = arguments;
  const bool help = !words.empty() && words[0] == "help";
  if (help) words.erase(words.begin());
  if (words.empty()) {
    (help ? environment.out : environment.err) << Overview(commands) << std::flush;
    return help ? kExitOk : kExitUsage;
  }
  if (words[0] == "--help" || words[0] == "-h") {
    environment.out << Overview(commands) << std::flush;
    return kExitOk;
  }
  if (words[0] == "--version") {
    environment.out << "svdllm " << SVDLLM_VERSION << std::endl;
    return kExitOk;
  }
  std::vector<std::string> names;
  std::vector<CommandSpec> of_group;  // "jobs" alone, or with --help
  for (const CommandSpec& command : commands) {
    const std::vector<std::string> parts = absl::StrSplit(command.name, ' ');
    if (words.size() >= parts.size() && std::equal(parts.begin(), parts.end(), words.begin())) {
      words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(parts.size()));
      if (help) words = {"--help"};
      return RunOne(command, words, environment);
    }
    names.push_back(command.name);
    if (parts.size() > 1 && parts[0] == words[0]) of_group.push_back(command);
  }
  if (!of_group.empty() && (words.size() == 1 || words[1] == "--help" || words[1] == "-h")) {
    const bool asked = help || words.size() > 1;
    (asked ? environment.out : environment.err) << Overview(of_group) << std::flush;
    return asked ? kExitOk : kExitUsage;
  }
  const std::string written =
      of_group.empty() || words.size() < 2 ? words[0] : absl::StrCat(words[0], " ", words[1]);
  return Fail(
      UsageError(absl::StrCat("unknown command '", written, "'", DidYouMean(written, names))),
      environment, WantsJson(arguments), "See svdllm help.");
}

}  // namespace svdllm::cli
