// Reading and changing rows of the SQLite job store. All functions run inside the caller's
// transaction.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "queue/job.h"
#include "queue/sqlite/db.h"

namespace svdllm {

struct JobRow {
  int64_t seq = 0;
  int64_t lease_token = 0;
  int64_t attempt_start_ms = 0;
  Job job;
};

// The columns that ReadJobRow expects, in order.
extern const char kJobColumns[];
JobRow ReadJobRow(const Query& query);
absl::Status LoadLabels(SqliteDb& db, JobRow& row);
absl::Status LoadAttempts(SqliteDb& db, JobRow& row);
// Of the rows that are QUEUED.
absl::Status LoadQueuePositions(SqliteDb& db, std::span<JobRow> rows);

// Returns the row with its labels and its place in the queue, without its attempts. NOT_FOUND with
// JOB_NOT_FOUND.
absl::StatusOr<JobRow> FindJob(SqliteDb& db, const std::string& id);
// Returns the row whose current lease this is. ABORTED with LEASE_LOST where there is none.
absl::StatusOr<JobRow> FindLeased(SqliteDb& db, const Lease& lease);

// Appends an event and numbers it.
absl::Status AddEvent(SqliteDb& db, JobRow& row, int64_t now_ms, EventKind kind,
                      std::string_view payload);
// Changes the state, adds its event, and counts a job that has ended. A state without a lease drops
// the lease.
absl::Status SetState(SqliteDb& db, JobRow& row, int64_t now_ms, JobState state,
                      const JobError* error);
// Records that the running attempt has ended, and counts it.
absl::Status EndAttempt(SqliteDb& db, const JobRow& row, int64_t now_ms, std::string_view outcome,
                        const JobError* error);
// Decides about the job of an attempt that ended without a verdict: CANCELLED where it was
// CANCELLING, FAILED with ATTEMPTS_EXHAUSTED after the last attempt, otherwise QUEUED and not
// claimed before not_before_ms.
absl::StatusOr<JobState> RequeueOrFail(SqliteDb& db, JobRow& row, int64_t now_ms,
                                       int64_t not_before_ms, const JobError& error);
absl::Status AddToCounter(SqliteDb& db, const std::string& name, double value);
absl::Status AddToCounters(SqliteDb& db, const std::map<std::string, double>& counters);

}  // namespace svdllm
