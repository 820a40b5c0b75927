// The commands: one row each. Adding one means a function and a row.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "client/cli/command.h"
#include "client/cli/flags.h"
#include "client/client.h"

namespace svdllm::cli {

// What a running command has at hand.
struct CommandContext {
  const CommandEnvironment& environment;
  const Flags& flags;
  Client& client;
  bool json = false;
  // Takes a notice for people while the command runs; prints it on err.
  std::function<void(const std::string&)>& say;
  // Printed on err behind an error of the command.
  std::string note_on_error = {};
};

struct CommandSpec {
  std::string name;         // "jobs get"
  std::string arguments;    // behind the name in the usage line: "NAME", "--model=DIR ..."
  std::string summary;      // one line
  std::string help;         // paragraphs, separated by a newline
  FlagTable flags;          // without those that every command has
  bool takes_name = false;  // exactly one argument, a job's name
  // The exit status, or the error that says it: see UsageError and command.cc.
  absl::StatusOr<int> (*run)(CommandContext& context) = nullptr;
};

std::vector<CommandSpec> SubmitCommands();  // compress, evaluate
std::vector<CommandSpec> JobCommands();     // jobs ..., server-info

// Ends the command with kExitUsage.
absl::Status UsageError(const std::string& message);
// The job's name from the argument: "jobs/ID" or just "ID".
std::string NameArgument(const Flags& flags);

}  // namespace svdllm::cli
