#include "client/cli/command.h"

#include <functional>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "base/files.h"
#include "client/cli/command_line.h"
#include "client/cli/format.h"
#include "client/cli/json_output.h"
#include "client/error.h"

namespace svdllm::cli {
namespace {

// The arguments may not have parsed, and the error is to be JSON nevertheless.
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
  if (IsUsageError(error)) return kExitUsage;
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
  if (!note.empty()) environment.err << Printable(note) << "\n";
  environment.err << std::flush;
  return exit_status;
}

std::string SeeHelp(const std::string& command) {
  return command.empty() ? "See svdllm help." : absl::StrCat("See svdllm ", command, " --help.");
}

// The files that a connection needs, from the flags or the environment.
absl::Status ReadFiles(const CommandLine& line, const CommandEnvironment& environment,
                       ClientOptions& options) {
  const auto read = [](const char* flag, const std::string& given, const std::string& set,
                       std::string& content) {
    const std::string& path = given.empty() ? set : given;
    if (path.empty()) return absl::OkStatus();
    const auto file = ReadFile(path, 4 << 20);
    if (!file.ok()) return UsageError(absl::StrCat("--", flag, ": ", file.status().message()));
    content = std::string(absl::StripAsciiWhitespace(*file));
    return content.empty() ? UsageError(absl::StrCat("--", flag, ": ", path, " is empty"))
                           : absl::OkStatus();
  };
  RETURN_IF_ERROR(read("ca", line.ca, environment.ca, options.ca_certificates));
  RETURN_IF_ERROR(read("cert", line.cert, environment.cert, options.certificate));
  RETURN_IF_ERROR(read("key", line.key, environment.key, options.private_key));
  if (options.certificate.empty() != options.private_key.empty()) {
    return UsageError("--cert and --key need each other");
  }
  RETURN_IF_ERROR(read("token_file", line.token_file, environment.token_file, options.token));
  options.tls = line.tls || !options.ca_certificates.empty() || !options.certificate.empty();
  return absl::OkStatus();
}

int Run(const CommandLine& line, const CommandEnvironment& environment) {
  std::string server = line.server;
  if (server.empty()) server = environment.server;
  if (server.empty()) server = kDefaultServer;
  ClientOptions options;
  options.call_timeout =
      std::chrono::milliseconds(static_cast<int64_t>(line.rpc_timeout_seconds * 1000));
  options.stop = environment.stop;
  absl::Status usable = ReadFiles(line, environment, options);
  if (usable.ok()) {
    const absl::Status checked = CheckClientOptions(server, options);
    if (!checked.ok()) usable = UsageError(absl::StrCat("--token_file: ", checked.message()));
  }
  if (!usable.ok()) return Fail(usable, environment, line.json, SeeHelp(line.command));
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
  CommandContext context{environment, client, line.json,
                         !line.server.empty() || !environment.server.empty(), say};
  const absl::StatusOr<int> result = line.run(context);
  if (result.ok()) return *result;
  return Fail(result.status(), environment, line.json,
              IsUsageError(result.status()) ? SeeHelp(line.command) : context.note_on_error);
}

}  // namespace

int RunCommand(const std::vector<std::string>& arguments, const CommandEnvironment& environment) {
  const CommandLine line = ParseCommandLine(AllCommands(), arguments);
  if (!line.error.empty())
    return Fail(UsageError(line.error), environment, WantsJson(arguments), SeeHelp(line.command));
  if (line.run) return Run(line, environment);
  (line.text_is_error ? environment.err : environment.out) << line.text << std::flush;
  return line.text_is_error ? kExitUsage : kExitOk;
}

}  // namespace svdllm::cli
