// The svdllm command as a function.
#pragma once

#include <string>
#include <vector>

#include "client/cli/environment.h"

namespace svdllm::cli {

// Runs one command: arguments without the program's name. Returns the exit status.
int RunCommand(const std::vector<std::string>& arguments, const CommandEnvironment& environment);

}  // namespace svdllm::cli
