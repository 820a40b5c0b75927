// Files that are mapped and get shorter meanwhile. Reading what is gone raises SIGBUS, which ends
// the process; under this guard it reads zeros, and whoever asks is told which file it was.
#pragma once

#include <cstddef>
#include <string>

#include "base/status.h"

namespace svdllm {

// Installs the guard for the rest of the process's life. Without it a fault ends the process.
void InstallMapGuard();

// For MappedFile: a map that is to be guarded from now on, and one that is about to be undone.
// WatchMap returns a number for ForgetMap, or -1 where there are too many. Thread-safe.
int WatchMap(const void* begin, size_t size, const std::string& path);
void ForgetMap(int number);

// MODEL_CORRUPT, naming the file, where since the last call of ResetMapGuard something of a mapped
// file was read that was not there any more: what was computed since is worth nothing. Cheap.
// Thread-safe.
absl::Status CheckMaps();
void ResetMapGuard();

}  // namespace svdllm
