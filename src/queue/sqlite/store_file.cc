#include "queue/store_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>

#include "base/files.h"
#include "base/format.h"
#include "queue/sqlite/db.h"
#include "queue/sqlite/schema.h"

namespace svdllm {
namespace {

namespace fs = std::filesystem;

constexpr int kBusyMs = 5000;
// More than a store gives out between two copies of it.
constexpr int64_t kTokensSkipped = 1'000'000'000;

absl::Status Damaged(const std::string& path, const std::string& what) {
  return MakeError(absl::StatusCode::kDataLoss, kStoreUnavailable, path + " is damaged: " + what);
}

absl::Status Inspect(SqliteDb& db, bool thorough, StoreFile& file) {
  {
    Query check(db, thorough ? "PRAGMA integrity_check(8)" : "PRAGMA quick_check(1)");
    std::string found;
    while (check.Next()) found += (found.empty() ? "" : "; ") + check.Bytes(0);
    RETURN_IF_ERROR(check.status());
    if (found != "ok") return absl::DataLossError(found);
  }
  {
    Query size(db, "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()");
    if (size.Next()) file.bytes = size.Int(0);
    RETURN_IF_ERROR(size.status());
  }
  ASSIGN_OR_RETURN(file.schema, SchemaVersion(db));
  file.is_known = file.schema <= kSchemaVersion;
  if (file.schema == 0) return absl::OkStatus();
  Query count(db, "SELECT state, count(*) FROM jobs GROUP BY state");
  while (count.Next()) file.jobs[static_cast<JobState>(count.Int(0))] = count.Int(1);
  return count.status();
}

std::string Text(const absl::Status& status) { return std::string(status.message()); }

absl::Status CopyStore(const std::string& from, const std::string& to) {
  ASSIGN_OR_RETURN(const auto source, SqliteDb::Open(from, kBusyMs, /*create=*/false));
  source->LeaveLog();
  ASSIGN_OR_RETURN(const auto copy, SqliteDb::Open(to, kBusyMs));
  // Requests name people's files: what the store keeps from others its copies keep from them too.
  if (chmod(to.c_str(), S_IRUSR | S_IWUSR) != 0) return ErrnoToStatus(errno, "chmod", to);
  RETURN_IF_ERROR(source->CopyTo(*copy));
  return copy->Execute("PRAGMA journal_mode = DELETE");  // one file, without a log beside it
}

std::string DirOf(const std::string& path) { return fs::path(path).parent_path().string(); }

void RemoveFiles(const std::string& path) {
  std::error_code ignored;
  for (const char* suffix : {"", "-journal", "-wal", "-shm"}) fs::remove(path + suffix, ignored);
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  return ErrnoToStatus(errno, "rename", from);
}

}  // namespace

absl::StatusOr<StoreFile> CheckStoreFile(const std::string& path, bool thorough) {
  if (!Exists(path)) return absl::NotFoundError(path + ": there is no such file");
  StoreFile file;
  ASSIGN_OR_RETURN(const auto db, SqliteDb::Open(path, kBusyMs, /*create=*/false));
  db->LeaveLog();
  const absl::Status status = Inspect(*db, thorough, file);
  if (absl::IsDataLoss(status)) return Damaged(path, Text(status));
  RETURN_IF_ERROR(status);
  return file;
}

absl::Status BackUpStore(const std::string& path, const std::string& copy) {
  const std::string half = copy + ".tmp";
  RemoveFiles(half);
  absl::Status status = CopyStore(path, half);
  if (status.ok()) status = CheckStoreFile(half, /*thorough=*/false).status();
  if (status.ok()) status = SyncPath(half);
  if (status.ok()) status = Rename(half, copy);
  if (!status.ok()) {
    RemoveFiles(half);
    return status;
  }
  return SyncPath(DirOf(copy));
}

absl::StatusOr<std::string> RestoreStore(const std::string& copy, const std::string& path) {
  RETURN_IF_ERROR(CheckStoreFile(copy, /*thorough=*/false).status());
  const std::string half = path + ".restored";
  RemoveFiles(half);
  RETURN_IF_ERROR(CopyFile(copy, half));
  {
    ASSIGN_OR_RETURN(const auto db, SqliteDb::Open(half, kBusyMs, /*create=*/false));
    RETURN_IF_ERROR(db->Execute("PRAGMA synchronous = FULL"));
    RETURN_IF_ERROR(
        Query(*db, "UPDATE meta SET value = value + ? WHERE name = 'fence'", kTokensSkipped).Run());
  }
  // The file first: a store that is gone is not taken for a sound one in between. Its log has to go
  // before the copy comes, or SQLite would play it into the copy.
  std::string kept;
  const std::string aside = path + ".damaged-" + UtcNow();
  for (const char* suffix : {"", "-wal", "-shm"}) {
    if (!Exists(path + suffix)) continue;
    RETURN_IF_ERROR(Rename(path + suffix, aside + suffix));
    kept = aside;
  }
  RETURN_IF_ERROR(Rename(half, path));
  RETURN_IF_ERROR(SyncPath(DirOf(path)));
  return kept;
}

}  // namespace svdllm
