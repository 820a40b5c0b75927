#include "server/leftovers.h"

#include <charconv>
#include <filesystem>
#include <system_error>
#include <vector>

#include "base/logging.h"
#include "server/run_job.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;

// "JOB.TOKEN", as run_job.cc names work directories. A job of "" where it is something else.
Lease LeaseOf(const std::string& name) {
  const size_t dot = name.rfind('.');
  Lease lease;
  if (dot == std::string::npos) return lease;
  const auto parsed =
      std::from_chars(name.data() + dot + 1, name.data() + name.size(), lease.token);
  if (parsed.ec == std::errc()) lease.job_id = name.substr(0, dot);
  return lease;
}

std::vector<fs::path> EntriesOf(const std::string& directory) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(directory, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    found.push_back(it->path());
  }
  return found;
}

}  // namespace

void RemoveLeftovers(JobStore& store, ArtifactStore& artifacts, const std::string& work_root) {
  // Where the store cannot be asked, everything stays.
  const auto is_current = [&store](const std::string& job, int64_t token) {
    const auto current = store.IsCurrent({job, token});
    return !current.ok() || *current;
  };
  int removed = artifacts.DiscardLost(is_current);
  for (const fs::path& path : EntriesOf(work_root)) {
    const Lease lease = LeaseOf(path.filename().string());
    if (lease.job_id.empty() || is_current(lease.job_id, lease.token)) continue;
    std::error_code ignored;
    fs::remove_all(path, ignored);
    ++removed;
  }
  if (removed > 0) {
    Log(LogLevel::kInfo, "leftovers of lost attempts removed",
        {{"count", std::to_string(removed)}});
  }
}

void RemoveEndedJournals(JobStore& store, const std::string& work_root) {
  for (const fs::path& path : EntriesOf(work_root)) {
    const std::string name = path.filename().string();
    if (!name.ends_with(kJournalEnding)) continue;
    const std::string id = name.substr(0, name.size() - kJournalEnding.size());
    const auto job = store.Get(id);
    // Where the store cannot be asked, it stays.
    const bool over = job.ok() ? IsTerminal(job->state) : ErrorReason(job.status()) == kJobNotFound;
    if (over) RemoveJournal(work_root, id);
  }
}

}  // namespace svdllm
