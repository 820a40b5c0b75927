// The job store's file under the server: looked through before it is used, backed up from time to
// time, restored where it is damaged. docs/backup.md says how people see it.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace svdllm {

std::string StorePath(const std::string& data_dir);   // of the job store
std::string BackupPath(const std::string& data_dir);  // of its backup

// Whether the job store can be used: it is sound, or there is none yet. DATA_LOSS, with the command
// that puts the backup in its place, where it is damaged, or is gone while its backup is there.
// restore: put the backup in its place at once instead. Nobody uses the store meanwhile.
absl::Status PrepareStore(const std::string& data_dir, bool restore);

// Prints what there is of the job store and its backup, and whether it is sound. Returns the exit
// status: 0 where all of it is, else 1. The store may be in use.
int PrintStoreCheck(const std::string& data_dir);

// How long the latest backup is younger than interval_ms; 0: it is not.
int64_t UntilBackupMs(const std::string& data_dir, int64_t interval_ms);

// Backs the job store up. What goes wrong is logged, and the backup then stays as it was.
void BackUp(const std::string& data_dir);

}  // namespace svdllm
