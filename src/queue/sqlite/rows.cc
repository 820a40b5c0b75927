#include "queue/sqlite/rows.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "metrics/metrics.h"
#include "queue/job_store.h"

namespace svdllm {
namespace {

std::optional<JobError> ReadError(const Query& query, int column) {
  if (query.IsNull(column)) return std::nullopt;
  return JobError{static_cast<absl::StatusCode>(query.Int(column)), query.Bytes(column + 1),
                  query.Bytes(column + 2)};
}

void BindError(Query& query, const JobError* error) {
  if (error == nullptr) {
    for (int i = 0; i < 3; ++i) query.Bind(Null{});
    return;
  }
  query.Bind(static_cast<int>(error->code));
  query.Bind(error->reason);
  query.Bind(Shortened(error->message, kMaxRecordedBytes));
}

// A job that has just ended.
absl::Status CountEnd(SqliteDb& db, const Job& job, const JobError* error) {
  const std::string_view kind = JobKindName(job.kind);
  const std::string_view state = JobStateName(job.state);
  const bool with_reason = job.state == JobState::kFailed && error != nullptr;
  std::map<std::string, double> counters;
  counters[CounterKey(kJobsFinished, {kind, state, with_reason ? error->reason : ""})] = 1;
  if (job.start_ms > 0) {
    CountSeconds(kJobDuration, {kind, state}, static_cast<double>(job.end_ms - job.start_ms) / 1000,
                 counters);
  }
  return AddToCounters(db, counters);
}

}  // namespace

const char kJobColumns[] =
    "seq, lease_token, attempt_start_ms, id, kind, state, attempt, publishing, create_ms, start_ms,"
    " update_ms, end_ms, timeout_ms, last_sequence, request, progress, result, error_code,"
    " error_reason, error_message, used_ms, owner, ttl_ms, expired_ms";

JobRow ReadJobRow(const Query& query) {
  JobRow row;
  row.seq = query.Int(0);
  row.lease_token = query.Int(1);
  row.attempt_start_ms = query.Int(2);
  Job& job = row.job;
  job.id = query.Bytes(3);
  job.kind = static_cast<JobKind>(query.Int(4));
  job.state = static_cast<JobState>(query.Int(5));
  job.attempt = static_cast<int>(query.Int(6));
  job.publishing = query.Int(7) != 0;
  job.create_ms = query.Int(8);
  job.start_ms = query.Int(9);
  job.update_ms = query.Int(10);
  job.end_ms = query.Int(11);
  job.timeout_ms = query.Int(12);
  job.last_sequence = query.Int(13);
  job.request = query.Bytes(14);
  job.progress = query.Bytes(15);
  job.result = query.Bytes(16);
  job.error = ReadError(query, 17);
  job.used_ms = query.Int(20);
  job.owner = query.Bytes(21);
  job.ttl_ms = query.Int(22);
  job.expired_ms = query.Int(23);
  return row;
}

absl::Status LoadLabels(SqliteDb& db, JobRow& row) {
  Query query(db, "SELECT key, value FROM labels WHERE job = ?", row.seq);
  while (query.Next()) row.job.labels[query.Bytes(0)] = query.Bytes(1);
  return query.status();
}

absl::Status LoadAttempts(SqliteDb& db, JobRow& row) {
  Query query(db,
              "SELECT number, start_ms, end_ms, outcome, error_code, error_reason, error_message"
              " FROM attempts WHERE job = ? ORDER BY token",
              row.seq);
  while (query.Next()) {
    row.job.attempts.push_back({static_cast<int>(query.Int(0)), query.Int(1), query.Int(2),
                                query.Bytes(3), ReadError(query, 4)});
  }
  return query.status();
}

// From one row to the next, so that a page costs one walk through the queue's index.
absl::Status LoadQueuePositions(SqliteDb& db, std::span<JobRow> rows) {
  std::vector<JobRow*> queued;
  for (JobRow& row : rows) {
    if (row.job.state == JobState::kQueued) queued.push_back(&row);
  }
  std::sort(queued.begin(), queued.end(),
            [](const JobRow* a, const JobRow* b) { return a->seq < b->seq; });
  int64_t seq = 0, position = 0;
  for (JobRow* row : queued) {
    Query count(db, "SELECT count(*) FROM jobs WHERE state = ? AND seq > ? AND seq <= ?",
                static_cast<int>(JobState::kQueued), seq, row->seq);
    if (count.Next()) position += count.Int(0);
    RETURN_IF_ERROR(count.status());
    row->job.queue_position = position;
    seq = row->seq;
  }
  return absl::OkStatus();
}

absl::StatusOr<JobRow> FindJob(SqliteDb& db, const std::string& id) {
  std::optional<JobRow> row;
  {
    Query query(db, std::string("SELECT ") + kJobColumns + " FROM jobs WHERE id = ?", id);
    if (query.Next()) row = ReadJobRow(query);
    RETURN_IF_ERROR(query.status());
  }
  if (!row.has_value()) {
    return WithOffender(
        MakeError(absl::StatusCode::kNotFound, kJobNotFound, "there is no job jobs/" + id), "job",
        "jobs/" + id);
  }
  RETURN_IF_ERROR(LoadLabels(db, *row));
  RETURN_IF_ERROR(LoadQueuePositions(db, {&*row, 1}));
  return std::move(*row);
}

absl::StatusOr<JobRow> FindLeased(SqliteDb& db, const Lease& lease) {
  auto row = FindJob(db, lease.job_id);
  if (row.ok() && lease.token != 0 && row->lease_token == lease.token) return row;
  if (!row.ok() && !absl::IsNotFound(row.status())) return row.status();
  return MakeError(absl::StatusCode::kAborted, kLeaseLost,
                   "the lease of this attempt at jobs/" + lease.job_id + " has ended");
}

absl::Status AddEvent(SqliteDb& db, JobRow& row, int64_t now_ms, EventKind kind,
                      std::string_view payload) {
  Query insert(db,
               "INSERT INTO events(job, sequence, time_ms, attempt, kind, payload)"
               " VALUES(?, ?, ?, ?, ?, ?)",
               row.seq, ++row.job.last_sequence, now_ms, row.job.attempt, static_cast<int>(kind),
               Blob{payload});
  RETURN_IF_ERROR(insert.Run());
  row.job.update_ms = now_ms;
  return Query(db, "UPDATE jobs SET last_sequence = ?, update_ms = ? WHERE seq = ?",
               row.job.last_sequence, now_ms, row.seq)
      .Run();
}

absl::Status SetState(SqliteDb& db, JobRow& row, int64_t now_ms, JobState state,
                      const JobError* error) {
  Job& job = row.job;
  job.state = state;
  job.update_ms = now_ms;
  if (IsTerminal(state)) job.end_ms = now_ms;
  if (state != JobState::kQueued) job.queue_position = 0;
  if (state != JobState::kRunning && state != JobState::kCancelling) {
    row.lease_token = 0;
    job.publishing = false;
  }
  Query insert(db,
               "INSERT INTO events(job, sequence, time_ms, attempt, kind, state, error_code,"
               " error_reason, error_message) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
               row.seq, ++job.last_sequence, now_ms, job.attempt,
               static_cast<int>(EventKind::kState), static_cast<int>(state));
  BindError(insert, error);
  RETURN_IF_ERROR(insert.Run());
  Query update(db,
               "UPDATE jobs SET state = ?, last_sequence = ?, update_ms = ?, end_ms = ?,"
               " lease_token = ?, publishing = ?, attempt = ? WHERE seq = ?",
               static_cast<int>(state), job.last_sequence, now_ms, job.end_ms, row.lease_token,
               job.publishing ? 1 : 0, job.attempt, row.seq);
  RETURN_IF_ERROR(update.Run());
  if (IsTerminal(state)) {
    RETURN_IF_ERROR(CountEnd(db, job, error));
    // What it was going to publish is anybody's again.
    RETURN_IF_ERROR(Query(db, "DELETE FROM outputs WHERE job = ?", row.seq).Run());
  }
  if (state != JobState::kFailed || error == nullptr) return absl::OkStatus();
  job.error = *error;
  Query record(db,
               "UPDATE jobs SET error_code = ?, error_reason = ?, error_message = ? WHERE seq = ?");
  BindError(record, error);
  record.Bind(row.seq);
  return record.Run();
}

absl::Status EndAttempt(SqliteDb& db, const JobRow& row, int64_t now_ms, std::string_view outcome,
                        const JobError* error) {
  Query insert(db,
               "INSERT INTO attempts(job, token, number, start_ms, end_ms, outcome, error_code,"
               " error_reason, error_message) VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?)",
               row.seq, row.lease_token, row.job.attempt, row.attempt_start_ms, now_ms, outcome);
  BindError(insert, error);
  RETURN_IF_ERROR(insert.Run());
  RETURN_IF_ERROR(
      Query(db, "UPDATE jobs SET used_ms = used_ms + attempt_ms, attempt_ms = 0 WHERE seq = ?",
            row.seq)
          .Run());
  return AddToCounter(db, CounterKey(kJobAttempts, {outcome}), 1);
}

absl::StatusOr<JobState> RequeueOrFail(SqliteDb& db, JobRow& row, int64_t now_ms,
                                       int64_t not_before_ms, const JobError& error) {
  JobState state = JobState::kQueued;
  JobError final_error = error;
  if (row.job.state == JobState::kCancelling) {
    state = JobState::kCancelled;
  } else if (row.job.attempt >= kMaxAttempts) {
    state = JobState::kFailed;
    row.job.attempts.clear();
    RETURN_IF_ERROR(LoadAttempts(db, row));
    final_error = {absl::StatusCode::kAborted, std::string(kAttemptsExhausted),
                   std::to_string(kMaxAttempts) + " attempts failed"};
    // Each with its share of what a record holds.
    for (const Attempt& attempt : row.job.attempts) {
      if (!attempt.error.has_value()) continue;
      final_error.message +=
          "; " + std::to_string(attempt.number) + ": " + attempt.error->reason + ": " +
          Shortened(attempt.error->message, kMaxRecordedBytes / 2 / kMaxAttempts);
    }
  } else {
    RETURN_IF_ERROR(
        Query(db, "UPDATE jobs SET not_before_ms = ? WHERE seq = ?", not_before_ms, row.seq).Run());
  }
  RETURN_IF_ERROR(SetState(db, row, now_ms, state, &final_error));
  return state;
}

absl::Status AddToCounter(SqliteDb& db, const std::string& name, double value) {
  return Query(db,
               "INSERT INTO counters(name, value) VALUES(?, ?)"
               " ON CONFLICT(name) DO UPDATE SET value = value + excluded.value",
               name, value)
      .Run();
}

absl::Status AddToCounters(SqliteDb& db, const std::map<std::string, double>& counters) {
  for (const auto& [name, value] : counters) RETURN_IF_ERROR(AddToCounter(db, name, value));
  return absl::OkStatus();
}

}  // namespace svdllm
