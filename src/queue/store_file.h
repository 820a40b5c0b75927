// The job store's file as a whole: whether it is sound, copies of it, and the way back to one.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/status.h"
#include "queue/job.h"

namespace svdllm {

// What a store's file holds.
struct StoreFile {
  int64_t schema = 0;                // 0: no tables yet
  bool is_known = true;              // false: a newer version of this program has written it
  int64_t bytes = 0;                 // with what stands only in the log as yet
  std::map<JobState, int64_t> jobs;  // states that there are jobs in
};

// Looks through a store's file, which others may be using, and changes nothing. thorough: indexes
// are compared with their tables too, which takes as long as there are jobs. NOT_FOUND where there
// is no file; DATA_LOSS, with what is wrong, where it is damaged or no store at all.
absl::StatusOr<StoreFile> CheckStoreFile(const std::string& path, bool thorough);

// Copies a store that others may be using, as it is at one moment. The copy is looked through and
// synced before it replaces what stood at its path, so that a damaged store never replaces a sound
// copy.
absl::Status BackUpStore(const std::string& path, const std::string& copy);

// Puts a copy in the place of a store that nobody uses. What stood there stays, log and all, under
// the name that is returned ("jobs.db.damaged-2026-01-31T12:00:00Z"; empty: there was nothing). On
// an error the store is as it was, or gone, and can be restored once more. Attempts of the restored
// store get tokens that none has had.
absl::StatusOr<std::string> RestoreStore(const std::string& copy, const std::string& path);

}  // namespace svdllm
