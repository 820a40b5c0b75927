// The commands: one row each. Adding one means a function that defines its flags, and a row.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "client/cli/environment.h"
#include "client/cli/flag_set.h"
#include "client/cli/format.h"
#include "client/cli/json_output.h"
#include "client/client.h"

namespace svdllm::cli {

// What a running command has at hand.
struct CommandContext {
  const CommandEnvironment& environment;
  Client& client;
  bool json = false;
  // Whether somebody said which server, so that a command to copy has to say it too.
  bool server_is_given = false;
  // Takes a notice for people while the command runs; prints it on err.
  std::function<void(const std::string&)>& say;
  // Printed on err behind an error of the command.
  std::string note_on_error = {};

  // Prints a result on out: as JSON, or what text makes of it, without what a terminal would obey.
  template <typename Message, typename Text>
  void Print(const Message& message, Text text) const {
    environment.out << (json ? ToJson(message) : Printable(text(PrintableMessage(message))))
                    << std::flush;
  }
};

// The exit status, or the error that says it: see UsageError and command.cc.
using CommandAction = std::function<absl::StatusOr<int>(CommandContext& context)>;

struct CommandSpec {
  std::string name;       // "jobs get"
  std::string arguments;  // behind the name in the usage line: "NAME", "--model=DIR ..."
  std::string summary;    // one line
  std::string help;  // paragraphs, separated by a newline; indented ones are printed as they are
  // Adds the command's flags, without those that every command has. What it returns holds their
  // values, and runs the command once they are set.
  CommandAction (*define)(FlagSet& flags) = nullptr;
};

std::vector<CommandSpec> AllCommands();

std::vector<CommandSpec> SubmitCommands();      // compress, evaluate
std::vector<CommandSpec> JobCommands();         // jobs ..., server-info
std::vector<CommandSpec> CompletionCommands();  // completion

// Ends the command with kExitUsage.
absl::Status UsageError(const std::string& message);
bool IsUsageError(const absl::Status& error);

}  // namespace svdllm::cli
