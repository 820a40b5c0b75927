#include "queue/sqlite/store.h"

#include <algorithm>
#include <utility>

#include "base/digest.h"
#include "base/files.h"
#include "queue/sqlite/schema.h"
#include "queue/store_file.h"

namespace svdllm {
namespace {

absl::Status StateError(const Job& job, const std::string& what) {
  return WithOffender(MakeError(absl::StatusCode::kFailedPrecondition, kJobStateReason,
                                "jobs/" + job.id + " " + what),
                      "job", "jobs/" + job.id);
}

std::string JobColumnsWhere(const std::string& condition) {
  return std::string("SELECT ") + kJobColumns + " FROM jobs WHERE " + condition;
}

// The job that request_id made, or none.
absl::StatusOr<std::optional<Job>> FindByRequestId(SqliteDb& db, const std::string& request_id,
                                                   const std::string& payload_digest) {
  if (request_id.empty()) return std::nullopt;
  std::string id;
  std::string digest;
  {
    Query query(db, "SELECT id, payload_digest FROM jobs WHERE request_id = ?", request_id);
    if (query.Next()) {
      id = query.Bytes(0);
      digest = query.Bytes(1);
    }
    RETURN_IF_ERROR(query.status());
  }
  if (id.empty()) return std::nullopt;
  if (digest != payload_digest) {
    const absl::Status reused = MakeError(
        absl::StatusCode::kInvalidArgument, kRequestIdReused,
        "request_id " + request_id + " has been used for another request (jobs/" + id + ")");
    return WithOffender(WithOffender(reused, "request_id", request_id), "job", "jobs/" + id);
  }
  ASSIGN_OR_RETURN(JobRow row, FindJob(db, id));
  RETURN_IF_ERROR(LoadAttempts(db, row));
  return std::move(row.job);
}

// Two jobs of which one publishes at another's output, in it or around it would both compute, and
// only one could publish.
absl::Status CheckFree(SqliteDb& db, const std::vector<std::string>& outputs) {
  const auto taken = [](const std::string& uri, const Query& found) {
    const std::string job = "jobs/" + found.Bytes(0), other = found.Bytes(1);
    const absl::Status status = MakeError(absl::StatusCode::kAlreadyExists, kOutputExists,
                                          uri + ": " + job + ", which has not ended, publishes " +
                                              (other == uri ? "there" : other) +
                                              "; choose another output, or cancel that job");
    return WithOffender(WithOffender(status, "output", uri), "job", job);
  };
  constexpr char kFind[] =
      "SELECT jobs.id, outputs.uri FROM outputs JOIN jobs ON jobs.seq = outputs.job WHERE ";
  for (const std::string& uri : outputs) {
    // Each is a look into the index, however many jobs wait: at it, in it ('0' follows '/'), and at
    // what it is in.
    Query at_or_in(db, std::string(kFind) + "uri = ?1 OR (uri > ?1 || '/' AND uri < ?1 || '0')",
                   uri);
    if (at_or_in.Next()) return taken(uri, at_or_in);
    RETURN_IF_ERROR(at_or_in.status());
    for (size_t end = uri.rfind('/'); end != std::string::npos && end > 0;
         end = uri.rfind('/', end - 1)) {
      Query around(db, std::string(kFind) + "uri = ?", uri.substr(0, end));
      if (around.Next()) return taken(uri, around);
      RETURN_IF_ERROR(around.status());
    }
  }
  return absl::OkStatus();
}

absl::Status CheckQuota(SqliteDb& db, const std::string& owner, int64_t limit) {
  if (limit == 0 || owner.empty()) return absl::OkStatus();
  // The condition on '' is that of the index.
  Query count(db, "SELECT count(*) FROM jobs WHERE owner = ? AND owner != '' AND state = ?", owner,
              static_cast<int>(JobState::kQueued));
  const int64_t queued = count.Next() ? count.Int(0) : 0;
  RETURN_IF_ERROR(count.status());
  if (queued < limit) return absl::OkStatus();
  return MakeError(absl::StatusCode::kResourceExhausted, kQuotaExceeded,
                   std::to_string(queued) + " jobs of " + owner + " are waiting, the limit is " +
                       std::to_string(limit));
}

// What a page token belongs to: a token of another query would silently skip jobs.
std::string FilterDigest(const ListQuery& query) {
  std::string text;
  for (JobState state : query.states) text += std::to_string(static_cast<int>(state)) + ",";
  text += "|";
  for (JobKind kind : query.kinds) text += std::to_string(static_cast<int>(kind)) + ",";
  for (const auto& [key, value] : query.labels) {
    text += "|" + std::to_string(key.size()) + ":" + key + "=" + value;
  }
  if (!query.owner.empty()) text += "|owner " + query.owner;
  if (query.oldest_first) text += "|oldest first";
  return Sha256(text).substr(0, 12);
}

// The last job of the page before; one in front of all jobs where there is no token.
absl::StatusOr<int64_t> ParsePageToken(const ListQuery& query) {
  if (query.page_token.empty()) return query.oldest_first ? 0 : INT64_MAX;
  const size_t dash = query.page_token.find('-');
  const std::string number = query.page_token.substr(0, dash);
  if (dash == std::string::npos || query.page_token.substr(dash + 1) != FilterDigest(query) ||
      number.empty() || number.size() > 18 ||
      number.find_first_not_of("0123456789") != std::string::npos) {
    return InvalidField("page_token: not one of a list with these filters and this order");
  }
  return std::stoll(number);
}

// In ascending order: the same statement for the same question.
template <typename T>
std::string AnyOf(const std::string& column, std::vector<T> values) {
  if (values.empty()) return "";
  std::sort(values.begin(), values.end());
  std::string text = " AND " + column + " IN (";
  for (size_t i = 0; i < values.size(); ++i) {
    text += (i > 0 ? "," : "") + std::to_string(static_cast<int>(values[i]));
  }
  return text + ")";
}

}  // namespace

absl::Status SqliteJobStore::OpenConnection(Connection& connection) {
  ASSIGN_OR_RETURN(connection.db, SqliteDb::Open(options_.path, options_.busy_timeout_ms));
  return ConfigureConnection(*connection.db);
}

absl::Status SqliteJobStore::Open() {
  if (!options_.boot_ms) options_.boot_ms = options_.now_ms ? options_.now_ms : BootMs;
  if (!options_.now_ms) options_.now_ms = WallMs;
  RETURN_IF_ERROR(OpenConnection(write_));
  RETURN_IF_ERROR(KeepEarlier());
  RETURN_IF_ERROR(MigrateSchema(*write_.db));
  RETURN_IF_ERROR(OpenConnection(read_));
  return OpenConnection(watch_);
}

absl::Status SqliteJobStore::KeepEarlier() {
  ASSIGN_OR_RETURN(const int64_t version, SchemaVersion(*write_.db));
  if (version == 0 || version >= kSchemaVersion) return absl::OkStatus();
  const std::string copy = options_.path + ".schema-" + std::to_string(version);
  if (Exists(copy)) return absl::OkStatus();
  return Annotate(BackUpStore(options_.path, copy), "no copy could be made before the upgrade");
}

absl::StatusOr<CreateResult> SqliteJobStore::Create(const NewJob& job, int64_t max_queued) {
  CreateResult result;
  RETURN_IF_ERROR(Write([&](SqliteDb& db) -> absl::Status {
    ASSIGN_OR_RETURN(auto known, FindByRequestId(db, job.request_id, job.payload_digest));
    if (known.has_value()) {
      result.job = std::move(*known);
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(CheckFree(db, job.outputs));
    int64_t queued = 0;
    {
      Query count(db, "SELECT count(*) FROM jobs WHERE state = ?",
                  static_cast<int>(JobState::kQueued));
      if (count.Next()) queued = count.Int(0);
      RETURN_IF_ERROR(count.status());
    }
    if (queued >= max_queued) {
      return MakeError(
          absl::StatusCode::kResourceExhausted, kQueueFull,
          std::to_string(queued) + " jobs are waiting, the limit is " + std::to_string(max_queued));
    }
    RETURN_IF_ERROR(CheckQuota(db, job.owner, options_.owner_limits.queued));
    const int64_t now = Now();
    Query insert(db,
                 "INSERT INTO jobs(id, kind, state, payload_digest, request, timeout_ms, create_ms,"
                 " update_ms, owner, ttl_ms, request_id)"
                 " VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING seq",
                 job.id, static_cast<int>(job.kind), static_cast<int>(JobState::kQueued),
                 job.payload_digest, Blob{job.request}, job.timeout_ms, now, now, job.owner,
                 job.ttl_ms);
    if (job.request_id.empty()) {
      insert.Bind(Null{});
    } else {
      insert.Bind(job.request_id);
    }
    JobRow row;
    if (insert.Next()) row.seq = insert.Int(0);
    RETURN_IF_ERROR(insert.Run());
    for (const auto& [key, value] : job.labels) {
      RETURN_IF_ERROR(
          Query(db, "INSERT INTO labels(job, key, value) VALUES(?, ?, ?)", row.seq, key, value)
              .Run());
    }
    for (const std::string& uri : job.outputs) {
      RETURN_IF_ERROR(Query(db, "INSERT INTO outputs(job, uri) VALUES(?, ?)", row.seq, uri).Run());
    }
    RETURN_IF_ERROR(SetState(db, row, now, JobState::kQueued, nullptr));
    ASSIGN_OR_RETURN(row, FindJob(db, job.id));
    result.job = std::move(row.job);
    result.created = true;
    return absl::OkStatus();
  }));
  return result;
}

absl::Status SqliteJobStore::CheckOutputs(const std::vector<std::string>& outputs) {
  std::lock_guard<std::mutex> lock(read_.mutex);
  return CheckFree(*read_.db, outputs);
}

absl::StatusOr<std::optional<Job>> SqliteJobStore::FindRequest(const std::string& request_id,
                                                               const std::string& payload_digest) {
  std::lock_guard<std::mutex> lock(read_.mutex);
  return FindByRequestId(*read_.db, request_id, payload_digest);
}

absl::StatusOr<Job> SqliteJobStore::Get(const std::string& id) {
  std::lock_guard<std::mutex> lock(read_.mutex);
  // One snapshot: state, labels and attempts belong together.
  RETURN_IF_ERROR(read_.db->Execute("BEGIN"));
  auto row = FindJob(*read_.db, id);
  absl::Status status = row.ok() ? LoadAttempts(*read_.db, *row) : row.status();
  read_.db->Execute("COMMIT").IgnoreError();
  RETURN_IF_ERROR(status);
  return std::move(row->job);
}

absl::StatusOr<ListPage> SqliteJobStore::List(const ListQuery& list) {
  ASSIGN_OR_RETURN(const int64_t last, ParsePageToken(list));
  std::string sql = JobColumnsWhere(list.oldest_first ? "seq > ?" : "seq < ?");
  sql += AnyOf("state", list.states) + AnyOf("kind", list.kinds);
  for (size_t i = 0; i < list.labels.size(); ++i) {
    sql += " AND EXISTS(SELECT 1 FROM labels WHERE job = seq AND key = ? AND value = ?)";
  }
  if (!list.owner.empty()) sql += " AND owner = ?";
  sql += list.oldest_first ? " ORDER BY seq LIMIT ?" : " ORDER BY seq DESC LIMIT ?";

  std::lock_guard<std::mutex> lock(read_.mutex);
  std::vector<JobRow> rows;
  {
    // Filters have thousands of combinations.
    Query query(*read_.db, Query::Once{sql}, last);
    for (const auto& [key, value] : list.labels) {
      query.Bind(key);
      query.Bind(value);
    }
    if (!list.owner.empty()) query.Bind(list.owner);
    query.Bind(list.page_size + 1);  // one more tells whether there is another page
    while (query.Next()) rows.push_back(ReadJobRow(query));
    RETURN_IF_ERROR(query.status());
  }
  ListPage page;
  if (rows.size() > static_cast<size_t>(list.page_size)) {
    rows.resize(static_cast<size_t>(list.page_size));
    page.next_page_token = std::to_string(rows.back().seq) + "-" + FilterDigest(list);
  }
  RETURN_IF_ERROR(LoadQueuePositions(*read_.db, rows));
  for (JobRow& row : rows) {
    RETURN_IF_ERROR(LoadLabels(*read_.db, row));
    page.jobs.push_back(std::move(row.job));
  }
  return page;
}

absl::StatusOr<Job> SqliteJobStore::Cancel(const std::string& id) {
  Job job;
  RETURN_IF_ERROR(Write([&](SqliteDb& db) -> absl::Status {
    ASSIGN_OR_RETURN(JobRow row, FindJob(db, id));
    RETURN_IF_ERROR(LoadAttempts(db, row));
    switch (row.job.state) {
      case JobState::kQueued:
        RETURN_IF_ERROR(SetState(db, row, Now(), JobState::kCancelled, nullptr));
        break;
      case JobState::kRunning:
        if (row.job.publishing) {
          return StateError(row.job, "cannot be cancelled any more: it is publishing its result");
        }
        RETURN_IF_ERROR(SetState(db, row, Now(), JobState::kCancelling, nullptr));
        break;
      case JobState::kCancelling:
      case JobState::kCancelled:
        break;
      case JobState::kSucceeded:
      case JobState::kFailed:
        return StateError(row.job, "cannot be cancelled: it has ended, " +
                                       std::string(JobStateName(row.job.state)));
      default:
        return StateError(row.job, "is in a state that this version does not know");
    }
    job = std::move(row.job);
    return absl::OkStatus();
  }));
  return job;
}

absl::Status SqliteJobStore::Delete(const std::string& id) {
  return Write([&](SqliteDb& db) -> absl::Status {
    ASSIGN_OR_RETURN(JobRow row, FindJob(db, id));
    if (!IsTerminal(row.job.state)) {
      return StateError(row.job, "cannot be deleted before it has ended: it is " +
                                     std::string(JobStateName(row.job.state)));
    }
    return Query(db, "DELETE FROM jobs WHERE seq = ?", row.seq).Run();
  });
}

absl::StatusOr<std::vector<Event>> SqliteJobStore::Events(const std::string& id,
                                                          int64_t after_sequence, int limit) {
  std::lock_guard<std::mutex> lock(read_.mutex);
  std::vector<Event> events;
  Query query(*read_.db,
              "SELECT sequence, time_ms, attempt, kind, state, error_code, error_reason,"
              " error_message, payload FROM events WHERE job = (SELECT seq FROM jobs WHERE id = ?)"
              " AND sequence > ? ORDER BY sequence LIMIT ?",
              id, after_sequence, limit);
  while (query.Next()) {
    Event event;
    event.sequence = query.Int(0);
    event.time_ms = query.Int(1);
    event.attempt = static_cast<int>(query.Int(2));
    event.kind = static_cast<EventKind>(query.Int(3));
    event.state = static_cast<JobState>(query.Int(4));
    if (!query.IsNull(5)) {
      event.error =
          JobError{static_cast<absl::StatusCode>(query.Int(5)), query.Bytes(6), query.Bytes(7)};
    }
    event.payload = query.Bytes(8);
    events.push_back(std::move(event));
  }
  RETURN_IF_ERROR(query.status());
  return events;
}

absl::StatusOr<StoreStats> SqliteJobStore::Stats() {
  std::lock_guard<std::mutex> lock(read_.mutex);
  StoreStats stats;
  for (int state = 1; state <= 6; ++state) stats.jobs[static_cast<JobState>(state)] = 0;
  {
    Query query(*read_.db, "SELECT state, count(*) FROM jobs GROUP BY state");
    while (query.Next()) stats.jobs[static_cast<JobState>(query.Int(0))] = query.Int(1);
    RETURN_IF_ERROR(query.status());
  }
  {
    // Nothing changes about a queued job, so that its last change is when it became one.
    Query query(*read_.db, "SELECT coalesce(min(update_ms), 0) FROM jobs WHERE state = ?",
                static_cast<int>(JobState::kQueued));
    if (query.Next()) stats.oldest_queued_ms = query.Int(0);
    RETURN_IF_ERROR(query.status());
  }
  {
    Query query(*read_.db, "SELECT lease_worker FROM jobs WHERE lease_token != 0");
    while (query.Next()) stats.busy_workers.push_back(query.Bytes(0));
    RETURN_IF_ERROR(query.status());
  }
  Query query(*read_.db, "SELECT name, value FROM counters");
  while (query.Next()) stats.counters[query.Bytes(0)] = query.Double(1);
  RETURN_IF_ERROR(query.status());
  return stats;
}

absl::StatusOr<std::vector<Timing>> SqliteJobStore::Timings(const std::vector<std::string>& like) {
  std::lock_guard<std::mutex> lock(read_.mutex);
  std::vector<Timing> timings;
  for (const std::string& key : like) {
    Query query(*read_.db,
                "SELECT work, seconds FROM timings WHERE jobs_like = ? ORDER BY seq DESC", key);
    while (query.Next()) timings.push_back({key, query.Double(0), query.Double(1)});
    RETURN_IF_ERROR(query.status());
  }
  return timings;
}

absl::StatusOr<int64_t> SqliteJobStore::Version() {
  std::lock_guard<std::mutex> lock(watch_.mutex);
  Query query(*watch_.db, "PRAGMA data_version");  // changes when another connection commits
  if (query.Next()) return query.Int(0);
  RETURN_IF_ERROR(query.status());
  return 0;
}

absl::Status SqliteJobStore::CheckWritable() {
  return Write([&](SqliteDb& db) {
    return Query(db, "UPDATE meta SET value = value + 1 WHERE name = 'probe'").Run();
  });
}

absl::StatusOr<std::unique_ptr<JobStore>> OpenSqliteJobStore(const SqliteStoreOptions& options) {
  auto store = std::make_unique<SqliteJobStore>(options);
  RETURN_IF_ERROR(store->Open());
  return store;
}

}  // namespace svdllm
