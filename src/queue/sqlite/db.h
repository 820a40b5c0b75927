// A thin layer over SQLite's C interface that does not throw: connections, cached statements,
// transactions. Not thread-safe: the owner of a connection serialises its use.
#pragma once

#include <sqlite3.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/status.h"

namespace svdllm {

// A value bound as BLOB; strings are bound as TEXT.
struct Blob {
  std::string_view bytes;
};
// A value bound as NULL.
struct Null {};

// A text of which there are many, so that its statement is not kept.
struct Once {
  const std::string& sql;
};

class SqliteDb {
 public:
  static absl::StatusOr<std::unique_ptr<SqliteDb>> Open(const std::string& path,
                                                        int busy_timeout_ms);
  SqliteDb(const SqliteDb&) = delete;
  SqliteDb& operator=(const SqliteDb&) = delete;
  ~SqliteDb();

  // Runs statements that return nothing.
  absl::Status Execute(const char* sql);
  // How many rows the latest statement changed.
  int64_t Changes() const { return sqlite3_changes64(db_); }
  // Makes a status of the connection's latest error.
  absl::Status Error(int code, std::string_view what) const;

 private:
  friend class Query;
  explicit SqliteDb(sqlite3* db) : db_(db) {}

  sqlite3* db_;
  std::unordered_map<std::string, sqlite3_stmt*> statements_;
};

// One run of a statement. Errors stick: from then on Next() is false, and status() has the error.
//   Query q(db, "SELECT a FROM t WHERE b = ?", b);
//   while (q.Next()) Use(q.Int(0));
//   RETURN_IF_ERROR(q.status());
class Query {
 public:
  template <typename... Args>
  Query(SqliteDb& db, const std::string& sql, const Args&... args) : Query(db, sql, Prepare{}) {
    (Bind(args), ...);
  }
  template <typename... Args>
  Query(SqliteDb& db, Once once, const Args&... args) : Query(db, once, Prepare{}) {
    (Bind(args), ...);
  }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;
  ~Query();

  // Bind further parameters, in order.
  void Bind(int64_t value);
  void Bind(int value) { Bind(static_cast<int64_t>(value)); }
  void Bind(double value);
  void Bind(std::string_view value);
  void Bind(const std::string& value) { Bind(std::string_view(value)); }
  void Bind(const char* value) { Bind(std::string_view(value)); }
  void Bind(Blob value);
  void Bind(Null);

  // Goes to the next row. False where there is none.
  bool Next();
  // Runs the statement to its end.
  absl::Status Run();
  const absl::Status& status() const { return status_; }

  int64_t Int(int column) const { return sqlite3_column_int64(statement_, column); }
  double Double(int column) const { return sqlite3_column_double(statement_, column); }
  std::string Bytes(int column) const;
  bool IsNull(int column) const { return sqlite3_column_type(statement_, column) == SQLITE_NULL; }

 private:
  struct Prepare {};
  Query(SqliteDb& db, const std::string& sql, Prepare);
  Query(SqliteDb& db, Once once, Prepare);
  void Check(int code);

  SqliteDb& db_;
  sqlite3_stmt* statement_ = nullptr;
  bool once_ = false;  // the statement is this query's alone
  int bound_ = 0;
  absl::Status status_;
};

// Holds the write lock from Begin to Commit. The destructor rolls back where Commit was not
// reached.
class Transaction {
 public:
  explicit Transaction(SqliteDb& db) : db_(db) {}
  Transaction(const Transaction&) = delete;
  Transaction& operator=(const Transaction&) = delete;
  ~Transaction();
  absl::Status Begin();
  absl::Status Commit();

 private:
  SqliteDb& db_;
  bool open_ = false;
};

}  // namespace svdllm
