// The part of the SQLite job store that forgets.
#include <string>
#include <vector>

#include "queue/sqlite/store.h"

namespace svdllm {
namespace {

// States that a newer version has beside these are not this one's to judge.
std::string HasEnded() {
  return "state BETWEEN " + std::to_string(static_cast<int>(JobState::kSucceeded)) + " AND " +
         std::to_string(static_cast<int>(JobState::kCancelled));
}

}  // namespace

absl::StatusOr<std::vector<Job>> SqliteJobStore::Expiring(int limit, int skip) {
  std::lock_guard<std::mutex> lock(read_.mutex);
  std::vector<Job> jobs;
  Query query(*read_.db,
              std::string("SELECT ") + kJobColumns +
                  " FROM jobs WHERE ttl_ms > 0 AND expired_ms = 0 AND end_ms + ttl_ms <= ? AND " +
                  HasEnded() + " ORDER BY end_ms + ttl_ms LIMIT ? OFFSET ?",
              Now(), limit, skip);
  while (query.Next()) jobs.push_back(ReadJobRow(query).job);
  RETURN_IF_ERROR(query.status());
  return jobs;
}

absl::Status SqliteJobStore::SetExpired(const std::string& id) {
  return Write([&](SqliteDb& db) -> absl::Status {
    ASSIGN_OR_RETURN(const JobRow row, FindJob(db, id));
    return Query(db, "UPDATE jobs SET expired_ms = ? WHERE seq = ?", Now(), row.seq).Run();
  });
}

absl::StatusOr<int> SqliteJobStore::DeleteEnded(int64_t age_ms, int limit) {
  const std::string old = "FROM jobs WHERE end_ms > 0 AND end_ms < ? AND " + HasEnded() +
                          " AND (ttl_ms = 0 OR expired_ms > 0)";
  const int64_t before_ms = Now() - age_ms;
  {
    // Mostly there are none: look first, without taking the write lock.
    std::lock_guard<std::mutex> lock(read_.mutex);
    Query query(*read_.db, "SELECT 1 " + old + " LIMIT 1", before_ms);
    const bool any = query.Next();
    RETURN_IF_ERROR(query.status());
    if (!any) return 0;
  }
  int64_t deleted = 0;
  RETURN_IF_ERROR(Write([&](SqliteDb& db) -> absl::Status {
    RETURN_IF_ERROR(
        Query(db, "DELETE FROM jobs WHERE seq IN (SELECT seq " + old + " ORDER BY end_ms LIMIT ?)",
              before_ms, limit)
            .Run());
    deleted = db.Changes();
    return absl::OkStatus();
  }));
  return static_cast<int>(deleted);
}

}  // namespace svdllm
