#include "queue/sqlite/db.h"

#include "queue/job.h"

namespace svdllm {

absl::StatusOr<std::unique_ptr<SqliteDb>> SqliteDb::Open(const std::string& path,
                                                         int busy_timeout_ms) {
  sqlite3* handle = nullptr;
  const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
  const int code = sqlite3_open_v2(path.c_str(), &handle, flags, nullptr);
  std::unique_ptr<SqliteDb> db(new SqliteDb(handle));  // also frees the handle of a failed open
  if (code != SQLITE_OK) return db->Error(code, "open " + path);
  sqlite3_extended_result_codes(handle, 1);
  sqlite3_busy_timeout(handle, busy_timeout_ms);
  return db;
}

SqliteDb::~SqliteDb() {
  for (auto& [sql, statement] : statements_) sqlite3_finalize(statement);
  sqlite3_close(db_);
}

absl::Status SqliteDb::Execute(const char* sql) {
  const int code = sqlite3_exec(db_, sql, nullptr, nullptr, nullptr);
  return code == SQLITE_OK ? absl::OkStatus() : Error(code, sql);
}

absl::Status SqliteDb::Error(int code, std::string_view what) const {
  std::string message = "job store: ";
  message.append(what.substr(0, 60)).append(": ");
  message.append(db_ != nullptr ? sqlite3_errmsg(db_) : sqlite3_errstr(code));
  const bool full = (code & 0xff) == SQLITE_FULL;
  return MakeError(full ? absl::StatusCode::kResourceExhausted : absl::StatusCode::kUnavailable,
                   kStoreUnavailable, message);
}

Query::Query(SqliteDb& db, const std::string& sql, Prepare) : db_(db) {
  sqlite3_stmt*& cached = db.statements_[sql];
  if (cached == nullptr) {
    const int size = static_cast<int>(sql.size());
    Check(
        sqlite3_prepare_v3(db.db_, sql.data(), size, SQLITE_PREPARE_PERSISTENT, &cached, nullptr));
  }
  statement_ = cached;
}

Query::Query(SqliteDb& db, Once once, Prepare) : db_(db), once_(true) {
  const int size = static_cast<int>(once.sql.size());
  Check(sqlite3_prepare_v3(db.db_, once.sql.data(), size, 0, &statement_, nullptr));
}

Query::~Query() {
  if (once_) {
    sqlite3_finalize(statement_);
    return;
  }
  if (statement_ == nullptr) return;
  sqlite3_reset(statement_);
  sqlite3_clear_bindings(statement_);
}

void Query::Check(int code) {
  if (code != SQLITE_OK && status_.ok()) status_ = db_.Error(code, "query");
}

void Query::Bind(int64_t value) {
  if (status_.ok()) Check(sqlite3_bind_int64(statement_, ++bound_, value));
}

void Query::Bind(double value) {
  if (status_.ok()) Check(sqlite3_bind_double(statement_, ++bound_, value));
}

void Query::Bind(std::string_view value) {
  if (!status_.ok()) return;
  const char* data = value.data() != nullptr ? value.data() : "";  // a null pointer would bind NULL
  Check(
      sqlite3_bind_text64(statement_, ++bound_, data, value.size(), SQLITE_TRANSIENT, SQLITE_UTF8));
}

void Query::Bind(Blob value) {
  if (!status_.ok()) return;
  const char* data = value.bytes.data() != nullptr ? value.bytes.data() : "";
  Check(sqlite3_bind_blob64(statement_, ++bound_, data, value.bytes.size(), SQLITE_TRANSIENT));
}

void Query::Bind(Null) {
  if (status_.ok()) Check(sqlite3_bind_null(statement_, ++bound_));
}

bool Query::Next() {
  if (!status_.ok()) return false;
  const int code = sqlite3_step(statement_);
  if (code == SQLITE_ROW) return true;
  if (code != SQLITE_DONE) status_ = db_.Error(code, sqlite3_sql(statement_));
  return false;
}

absl::Status Query::Run() {
  while (Next()) {
  }
  return status_;
}

std::string Query::Bytes(int column) const {
  const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_, column));
  const int size = sqlite3_column_bytes(statement_, column);
  return data != nullptr ? std::string(data, static_cast<size_t>(size)) : std::string();
}

Transaction::~Transaction() {
  if (open_) db_.Execute("ROLLBACK").IgnoreError();  // the failed statement may have rolled back
}

absl::Status Transaction::Begin() {
  RETURN_IF_ERROR(db_.Execute("BEGIN IMMEDIATE"));
  open_ = true;
  return absl::OkStatus();
}

absl::Status Transaction::Commit() {
  RETURN_IF_ERROR(db_.Execute("COMMIT"));
  open_ = false;
  return absl::OkStatus();
}

}  // namespace svdllm
