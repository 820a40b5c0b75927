// Where the checkout is that the tests were built from: its data, and ../shared beside it.
#pragma once

#include <string>

namespace svdllm {

// An absolute path without a slash at its end.
std::string SourceDir();

}  // namespace svdllm
