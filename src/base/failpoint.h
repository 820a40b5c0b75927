// Places at which a test lets this process die, as a machine may at any of them.
#pragma once

#include <string_view>

namespace svdllm {

// Kills this process (SIGKILL) at the n-th time that it passes the place of this name, where the
// environment variable SVDLLM_FAILPOINT is "name:n:path" and there is a file at the path. The file
// is removed first, so that the process that takes this one's place passes. Without the variable it
// costs next to nothing. Thread-safe.
void Failpoint(std::string_view name);

}  // namespace svdllm
