// The arguments of svdllm, parsed by CLI11, and what help says of them.
#pragma once

#include <string>
#include <vector>

#include "client/cli/commands.h"

namespace svdllm::cli {

inline constexpr char kDefaultServer[] = "127.0.0.1:7070";

// What is asked for: a command to run, a text to print, or neither and an error.
struct CommandLine {
  CommandAction run;
  std::string text;   // help or version
  std::string error;  // what is wrong with the arguments
  // The command as it is written, for "See svdllm compress --help."; empty where none was found.
  std::string command;
  // Nothing was asked for, so that text tells what could be: printed as an error is.
  bool text_is_error = false;

  // Flags of every command.
  std::string server;  // empty where it was not given
  bool json = false;
  bool tls = false;
  std::string ca, cert, key, token_file;  // files; empty: not given
  double rpc_timeout_seconds = 10;
};

// A command as it is completed.
struct DescribedFlag {
  std::string name;   // "method"
  std::string value;  // "svd|asvd", "DIR|URI"; empty: a switch
  std::string help;
};
struct DescribedCommand {
  std::string name;                  // "jobs get"
  std::vector<DescribedFlag> flags;  // with those of every command
};
std::vector<DescribedCommand> DescribeCommands(const std::vector<CommandSpec>& commands);

CommandLine ParseCommandLine(const std::vector<CommandSpec>& commands,
                             const std::vector<std::string>& arguments);

}  // namespace svdllm::cli
