// Parts of the program that are opened at run time, because linking them would cost or break
// processes that do not need them.
#pragma once

#include <string>

#include "base/status.h"

namespace svdllm {

// Opens a shared object of ours by file name and returns a symbol of it. It stays open for good. It
// is looked for in $SVDLLM_MODULE_DIR, beside the executable, in ../lib/svdllm from there, where an
// installation has it, and in ../modules, where a build has it. No place is compiled in, so that
// what is built can be moved. UNAVAILABLE, with the loader's words, where it or something that it
// needs is missing.
//
// The module's own libraries go before the program's when its symbols are resolved (RTLD_DEEPBIND),
// so that a copy of a library inside it cannot get mixed up with ours. Sanitizers do not allow that
// flag; there the module is opened without it.
absl::StatusOr<void*> OpenModule(const std::string& file_name, const char* symbol);

}  // namespace svdllm
