// The half of the SQLite job store that workers and their supervisor call.
#include <map>
#include <string>
#include <utility>

#include "metrics/metrics.h"
#include "queue/sqlite/store.h"

namespace svdllm {

namespace {

constexpr char kNotAtLimit[] =
    " AND owner NOT IN (SELECT owner FROM jobs WHERE owner != '' AND state IN (?, ?)"
    " GROUP BY owner HAVING count(*) >= ?)";

}  // namespace

absl::StatusOr<std::optional<ClaimedJob>> SqliteJobStore::Claim(const std::string& worker_id,
                                                                int64_t lease_ms,
                                                                const JobFilter& can_run) {
  std::optional<ClaimedJob> claimed;
  RETURN_IF_ERROR(Write([&](SqliteDb& db) -> absl::Status {
    const int64_t now = Now();
    std::string id;
    {
      // Who is at the limit is found out once, not for each job that waits.
      const int64_t limit = options_.owner_limits.running;
      Query query(db,
                  std::string("SELECT ") + kJobColumns +
                      " FROM jobs WHERE state = ? AND not_before_ms <= ?" +
                      (limit > 0 ? kNotAtLimit : "") + " ORDER BY seq",
                  static_cast<int>(JobState::kQueued), LeaseNow());
      if (limit > 0) {
        query.Bind(static_cast<int>(JobState::kRunning));
        query.Bind(static_cast<int>(JobState::kCancelling));
        query.Bind(limit);
      }
      while (id.empty() && query.Next()) {
        const Job job = ReadJobRow(query).job;
        if (!can_run || can_run(job)) id = job.id;
      }
      RETURN_IF_ERROR(query.status());
    }
    if (id.empty()) return absl::OkStatus();
    ASSIGN_OR_RETURN(JobRow row, FindJob(db, id));
    {
      Query next(db, "UPDATE meta SET value = value + 1 WHERE name = 'fence' RETURNING value");
      if (next.Next()) row.lease_token = next.Int(0);
      RETURN_IF_ERROR(next.Run());
    }
    // Nothing has changed about the job since it became QUEUED.
    std::map<std::string, double> counters;
    CountSeconds(kQueueWait, {JobKindName(row.job.kind)},
                 static_cast<double>(now - row.job.update_ms) / 1000, counters);
    RETURN_IF_ERROR(AddToCounters(db, counters));
    ++row.job.attempt;
    if (row.job.start_ms == 0) row.job.start_ms = now;
    row.job.progress.clear();
    RETURN_IF_ERROR(Query(db,
                          "UPDATE jobs SET start_ms = ?, attempt_start_ms = ?, lease_worker = ?,"
                          " lease_expires_ms = ?, progress = NULL, attempt_ms = 0 WHERE seq = ?",
                          row.job.start_ms, now, worker_id, LeaseNow() + lease_ms, row.seq)
                        .Run());
    RETURN_IF_ERROR(SetState(db, row, now, JobState::kRunning, nullptr));
    claimed = ClaimedJob{std::move(row.job), {id, row.lease_token}};
    return absl::OkStatus();
  }));
  return claimed;
}

absl::StatusOr<bool> SqliteJobStore::Renew(const Lease& lease, int64_t lease_ms,
                                           int64_t attempt_ms) {
  bool cancelling = false;
  RETURN_IF_ERROR(Write([&](SqliteDb& db) -> absl::Status {
    ASSIGN_OR_RETURN(JobRow row, FindLeased(db, lease));
    cancelling = row.job.state == JobState::kCancelling;
    return Query(db, "UPDATE jobs SET lease_expires_ms = ?, attempt_ms = ? WHERE seq = ?",
                 LeaseNow() + lease_ms, attempt_ms, row.seq)
        .Run();
  }));
  return cancelling;
}

absl::Status SqliteJobStore::Append(const Lease& lease, std::span<const NewEvent> events) {
  return Write([&](SqliteDb& db) -> absl::Status {
    ASSIGN_OR_RETURN(JobRow row, FindLeased(db, lease));
    for (const NewEvent& event : events) {
      RETURN_IF_ERROR(AddEvent(db, row, Now(), event.kind, event.payload));
      if (event.kind != EventKind::kProgress) continue;
      RETURN_IF_ERROR(
          Query(db, "UPDATE jobs SET progress = ? WHERE seq = ?", Blob{event.payload}, row.seq)
              .Run());
    }
    return absl::OkStatus();
  });
}

absl::Status SqliteJobStore::BeginPublish(const Lease& lease) {
  return Write([&](SqliteDb& db) -> absl::Status {
    ASSIGN_OR_RETURN(JobRow row, FindLeased(db, lease));
    if (row.job.state == JobState::kCancelling) {
      return absl::CancelledError("jobs/" + row.job.id + " is being cancelled");
    }
    return Query(db, "UPDATE jobs SET publishing = 1 WHERE seq = ?", row.seq).Run();
  });
}

namespace {

// Adds a timing and forgets those of jobs like it that are too old.
absl::Status KeepTiming(SqliteDb& db, const Timing& timing) {
  RETURN_IF_ERROR(Query(db, "INSERT INTO timings(jobs_like, work, seconds) VALUES(?, ?, ?)",
                        timing.like, timing.work, timing.seconds)
                      .Run());
  return Query(db,
               "DELETE FROM timings WHERE jobs_like = ?1 AND seq <= (SELECT seq FROM timings"
               " WHERE jobs_like = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
               timing.like, kTimingsKept)
      .Run();
}

}  // namespace

absl::StatusOr<JobState> SqliteJobStore::Finish(const Lease& lease, const Outcome& outcome) {
  JobState state = JobState::kCancelled;
  RETURN_IF_ERROR(Write([&](SqliteDb& db) -> absl::Status {
    ASSIGN_OR_RETURN(JobRow row, FindLeased(db, lease));
    const int64_t now = Now();
    if (outcome.kind == Outcome::Kind::kFailed) {
      RETURN_IF_ERROR(EndAttempt(db, row, now, kOutcomeFailed, &outcome.error));
      if (outcome.retry && row.job.state != JobState::kCancelling) {
        const int64_t pause = options_.retry_pause_ms << (row.job.attempt - 1);
        ASSIGN_OR_RETURN(state, RequeueOrFail(db, row, now, LeaseNow() + pause, outcome.error));
        return absl::OkStatus();
      }
    }
    if (row.job.state == JobState::kCancelling || outcome.kind == Outcome::Kind::kCancelled) {
      if (outcome.kind != Outcome::Kind::kFailed) {
        RETURN_IF_ERROR(EndAttempt(db, row, now, kOutcomeCancelled, nullptr));
      }
      return SetState(db, row, now, JobState::kCancelled, nullptr);
    }
    const bool failed = outcome.kind == Outcome::Kind::kFailed;
    if (!failed) RETURN_IF_ERROR(EndAttempt(db, row, now, kOutcomeSucceeded, nullptr));
    for (const NewEvent& event : outcome.events) {
      RETURN_IF_ERROR(AddEvent(db, row, now, event.kind, event.payload));
    }
    RETURN_IF_ERROR(AddToCounters(db, outcome.counters));
    if (outcome.timing.has_value()) RETURN_IF_ERROR(KeepTiming(db, *outcome.timing));
    RETURN_IF_ERROR(
        Query(db, "UPDATE jobs SET result = ? WHERE seq = ?", Blob{outcome.result}, row.seq).Run());
    state = failed ? JobState::kFailed : JobState::kSucceeded;
    return SetState(db, row, now, state, failed ? &outcome.error : nullptr);
  }));
  return state;
}

absl::Status SqliteJobStore::Release(const Lease& lease) {
  return Write([&](SqliteDb& db) -> absl::Status {
    ASSIGN_OR_RETURN(JobRow row, FindLeased(db, lease));
    const int64_t now = Now();
    RETURN_IF_ERROR(EndAttempt(db, row, now, kOutcomeReleased, nullptr));
    if (row.job.state == JobState::kCancelling) {
      return SetState(db, row, now, JobState::kCancelled, nullptr);
    }
    --row.job.attempt;
    return SetState(db, row, now, JobState::kQueued, nullptr);
  });
}

namespace {

// Whether an attempt of the job has ended for this reason already.
absl::StatusOr<bool> EndedBefore(SqliteDb& db, JobRow& row, std::string_view reason) {
  row.job.attempts.clear();
  RETURN_IF_ERROR(LoadAttempts(db, row));
  for (const Attempt& attempt : row.job.attempts) {
    if (attempt.error.has_value() && attempt.error->reason == reason) return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<int> SqliteJobStore::EndLostAttempts(SqliteDb& db, const std::string& condition,
                                                    const std::string& parameter,
                                                    const std::string& why,
                                                    std::string_view reason) {
  std::vector<std::pair<std::string, std::string>> lost;  // job, worker
  {
    Query query(db, "SELECT id, lease_worker FROM jobs WHERE lease_token != 0 AND " + condition,
                parameter);
    while (query.Next()) lost.emplace_back(query.Bytes(0), query.Bytes(1));
    RETURN_IF_ERROR(query.status());
  }
  const int64_t now = Now();
  for (const auto& [id, worker] : lost) {
    ASSIGN_OR_RETURN(JobRow row, FindJob(db, id));
    const bool for_memory = reason == kHostOutOfMemory;
    const JobError error{
        for_memory ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kAborted,
        std::string(reason), "worker " + worker + ": " + why};
    ASSIGN_OR_RETURN(const bool again, EndedBefore(db, row, reason));
    RETURN_IF_ERROR(EndAttempt(db, row, now, kOutcomeLost, &error));
    if (for_memory && again && row.job.state != JobState::kCancelling) {
      RETURN_IF_ERROR(SetState(db, row, now, JobState::kFailed, &error));
    } else {
      const int64_t pause = for_memory ? options_.retry_pause_ms : 0;
      RETURN_IF_ERROR(RequeueOrFail(db, row, now, LeaseNow() + pause, error).status());
    }
    RETURN_IF_ERROR(AddToCounter(db, kLeasesLost, 1));
  }
  return static_cast<int>(lost.size());
}

absl::StatusOr<bool> SqliteJobStore::IsCurrent(const Lease& lease) {
  std::lock_guard<std::mutex> lock(read_.mutex);
  Query query(*read_.db, "SELECT 1 FROM jobs WHERE id = ? AND lease_token = ? AND lease_token != 0",
              lease.job_id, lease.token);
  const bool found = query.Next();
  RETURN_IF_ERROR(query.status());
  return found;
}

absl::StatusOr<int> SqliteJobStore::ExpireLeases() {
  {
    // Called every second: look first, without taking the write lock.
    std::lock_guard<std::mutex> lock(read_.mutex);
    Query query(*read_.db, "SELECT 1 FROM jobs WHERE lease_token != 0 AND lease_expires_ms <= ?",
                LeaseNow());
    const bool any = query.Next();
    RETURN_IF_ERROR(query.status());
    if (!any) return 0;
  }
  int count = 0;
  RETURN_IF_ERROR(Write([&](SqliteDb& db) -> absl::Status {
    ASSIGN_OR_RETURN(count,
                     EndLostAttempts(db, "lease_expires_ms <= CAST(? AS INTEGER)",
                                     std::to_string(LeaseNow()), "its lease ran out", kWorkerDied));
    return absl::OkStatus();
  }));
  return count;
}

absl::StatusOr<int> SqliteJobStore::ReleaseWorkers(const std::string& worker_prefix,
                                                   const std::string& why,
                                                   std::string_view reason) {
  int count = 0;
  RETURN_IF_ERROR(Write([&](SqliteDb& db) -> absl::Status {
    ASSIGN_OR_RETURN(count, EndLostAttempts(db, "substr(lease_worker, 1, length(?1)) = ?1",
                                            worker_prefix, why, reason));
    return absl::OkStatus();
  }));
  return count;
}

}  // namespace svdllm
