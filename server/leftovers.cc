#include "server/leftovers.h"

#include <charconv>
#include <filesystem>
#include <system_error>
#include <vector>

#include "base/logging.h"

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

}  // namespace

void RemoveLeftovers(JobStore& store, ArtifactStore& artifacts, const std::string& work_root) {
  // Where the store cannot be asked, everything stays.
  const auto is_current = [&store](const std::string& job, int64_t token) {
    const auto current = store.IsCurrent({job, token});
    return !current.ok() || *current;
  };
  int removed = artifacts.DiscardLost(is_current);
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator it(work_root, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    found.push_back(it->path());
  }
  for (const fs::path& path : found) {
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

}  // namespace svdllm
