// Which build of the program this is.
#pragma once

#include <string>

namespace svdllm {

// The linker's digest of the running program, in hexadecimal: another after every change of its
// code. "unknown" where the program was linked without one.
std::string BuildId();

}  // namespace svdllm
