// The tables of the SQLite job store and their version.
#pragma once

#include "queue/sqlite/db.h"

namespace svdllm {

inline constexpr int64_t kSchemaVersion = 3;

// 0: of a file without tables.
absl::StatusOr<int64_t> SchemaVersion(SqliteDb& db);
// Sets the connection's modes. Every connection needs it.
absl::Status ConfigureConnection(SqliteDb& db);
// Creates or upgrades the tables. FAILED_PRECONDITION where they are newer than this program.
absl::Status MigrateSchema(SqliteDb& db);

}  // namespace svdllm
