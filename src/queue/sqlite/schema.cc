#include "queue/sqlite/schema.h"

#include "queue/job.h"

namespace svdllm {
namespace {

// `seq` orders jobs and is what the other tables refer to; AUTOINCREMENT never reuses one, so page
// tokens stay right across deletions.
constexpr char kVersion1[] = R"sql(
CREATE TABLE jobs(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL UNIQUE,
  kind INTEGER NOT NULL,
  state INTEGER NOT NULL,
  request_id TEXT UNIQUE,
  payload_digest TEXT NOT NULL,
  request BLOB NOT NULL,
  timeout_ms INTEGER NOT NULL,
  create_ms INTEGER NOT NULL,
  start_ms INTEGER NOT NULL DEFAULT 0,
  update_ms INTEGER NOT NULL,
  end_ms INTEGER NOT NULL DEFAULT 0,
  not_before_ms INTEGER NOT NULL DEFAULT 0,
  attempt INTEGER NOT NULL DEFAULT 0,
  attempt_start_ms INTEGER NOT NULL DEFAULT 0,
  publishing INTEGER NOT NULL DEFAULT 0,
  lease_token INTEGER NOT NULL DEFAULT 0,
  lease_worker TEXT NOT NULL DEFAULT '',
  lease_expires_ms INTEGER NOT NULL DEFAULT 0,
  last_sequence INTEGER NOT NULL DEFAULT 0,
  progress BLOB,
  result BLOB,
  error_code INTEGER, error_reason TEXT, error_message TEXT
) STRICT;
CREATE INDEX jobs_by_state ON jobs(state, seq);
CREATE INDEX jobs_by_lease ON jobs(lease_expires_ms) WHERE lease_token != 0;
CREATE TABLE labels(
  job INTEGER NOT NULL REFERENCES jobs(seq) ON DELETE CASCADE,
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY(job, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE events(
  job INTEGER NOT NULL REFERENCES jobs(seq) ON DELETE CASCADE,
  sequence INTEGER NOT NULL,
  time_ms INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  state INTEGER,
  error_code INTEGER, error_reason TEXT, error_message TEXT,
  payload BLOB,
  PRIMARY KEY(job, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE attempts(
  job INTEGER NOT NULL REFERENCES jobs(seq) ON DELETE CASCADE,
  token INTEGER NOT NULL,
  number INTEGER NOT NULL,
  start_ms INTEGER NOT NULL,
  end_ms INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  error_code INTEGER, error_reason TEXT, error_message TEXT,
  PRIMARY KEY(job, token)
) STRICT, WITHOUT ROWID;
CREATE TABLE counters(name TEXT PRIMARY KEY, value REAL NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta(name, value) VALUES('fence', 0), ('probe', 0);
PRAGMA user_version = 1;
)sql";

// outputs has those of jobs that have not ended. Jobs of version 1 have none here: that one of
// theirs is taken is found out when their turn comes. Times by which leases and pauses end are
// BootMs() from now on; those of version 1 mean nothing to it, and EndForeignLeases ends them.
constexpr char kVersion2[] = R"sql(
ALTER TABLE jobs ADD COLUMN used_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN attempt_ms INTEGER NOT NULL DEFAULT 0;
INSERT INTO meta(name, value) VALUES('boot', 0);
CREATE TABLE outputs(
  job INTEGER NOT NULL REFERENCES jobs(seq) ON DELETE CASCADE,
  uri TEXT NOT NULL,
  PRIMARY KEY(job, uri)
) STRICT, WITHOUT ROWID;
CREATE TABLE timings(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  jobs_like TEXT NOT NULL,
  work REAL NOT NULL,
  seconds REAL NOT NULL
) STRICT;
CREATE INDEX timings_by_likeness ON timings(jobs_like, seq);
PRAGMA user_version = 2;
)sql";

// Jobs of version 2 and before belong to nobody, as all do where the server asks for no identity,
// and what they published stays. expired_ms: when it was removed.
constexpr char kVersion3[] = R"sql(
ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN ttl_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN expired_ms INTEGER NOT NULL DEFAULT 0;
CREATE INDEX jobs_by_expiry ON jobs(end_ms + ttl_ms) WHERE ttl_ms > 0 AND expired_ms = 0;
CREATE INDEX jobs_by_end ON jobs(end_ms) WHERE end_ms > 0;
CREATE INDEX jobs_by_owner ON jobs(owner, state) WHERE owner != '';
CREATE INDEX outputs_by_uri ON outputs(uri);
PRAGMA user_version = 3;
)sql";

// No worker outlives its machine: what leases it held before the latest start have run out,
// whatever their times say by the clock of the new one. Pauses are over as well.
absl::Status EndForeignLeases(SqliteDb& db) {
  Query seen(db, "UPDATE meta SET value = ?1 WHERE name = 'boot' AND value != ?1", BootNumber());
  RETURN_IF_ERROR(seen.Run());
  if (db.Changes() == 0) return absl::OkStatus();
  return Query(db, "UPDATE jobs SET lease_expires_ms = 0, not_before_ms = 0").Run();
}

}  // namespace

absl::StatusOr<int64_t> SchemaVersion(SqliteDb& db) {
  Query query(db, "PRAGMA user_version");
  const int64_t version = query.Next() ? query.Int(0) : 0;
  RETURN_IF_ERROR(query.status());
  return version;
}

absl::Status ConfigureConnection(SqliteDb& db) {
  // FULL syncs the log at every commit: what was answered with OK survives a power cut.
  return db.Execute(
      "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;");
}

absl::Status MigrateSchema(SqliteDb& db) {
  Transaction transaction(db);
  RETURN_IF_ERROR(transaction.Begin());
  ASSIGN_OR_RETURN(const int64_t version, SchemaVersion(db));
  if (version > kSchemaVersion) {
    return MakeError(absl::StatusCode::kFailedPrecondition, kStoreUnavailable,
                     "job store: written by a newer version of this program (schema " +
                         std::to_string(version) + ", known up to " +
                         std::to_string(kSchemaVersion) + ")");
  }
  if (version < 1) RETURN_IF_ERROR(db.Execute(kVersion1));
  if (version < 2) RETURN_IF_ERROR(db.Execute(kVersion2));
  if (version < 3) RETURN_IF_ERROR(db.Execute(kVersion3));
  RETURN_IF_ERROR(EndForeignLeases(db));
  return transaction.Commit();
}

}  // namespace svdllm
