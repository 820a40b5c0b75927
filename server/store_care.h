// The job store's file under the server: looked through before it is used, backed up from time to
// time, restored where it is damaged. docs/backup.md says how people see it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>

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

// Backs the job store up, in a thread of its own, until it is destroyed: at once where the latest
// backup is older than interval_ms, and then every interval_ms.
class BackupThread {
 public:
  BackupThread(std::string data_dir, int64_t interval_ms);
  ~BackupThread();

 private:
  void Run();

  const std::string path_, backup_;
  const int64_t interval_ms_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace svdllm
