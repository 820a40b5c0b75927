#include "server/store_care.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <utility>

#include "base/files.h"
#include "base/logging.h"
#include "queue/job.h"
#include "queue/store_file.h"

namespace svdllm {
namespace {

std::string Text(const absl::Status& status) { return std::string(status.message()); }

// When a file was written, by the clock of its times; 0: it is not there.
int64_t WrittenMs(const std::string& path) {
  struct stat info {};
  if (stat(path.c_str(), &info) != 0) return 0;
  return int64_t{info.st_mtim.tv_sec} * 1000 + info.st_mtim.tv_nsec / 1000000;
}

std::string Utc(int64_t ms) {
  const auto seconds = static_cast<time_t>(ms / 1000);
  tm parts{};
  gmtime_r(&seconds, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// As a shell takes it for one word.
std::string Quoted(const std::string& word) {
  constexpr char kPlain[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,=";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

// What to do about a store that cannot be used.
std::string Advice(const std::string& data_dir) {
  const std::string backup = BackupPath(data_dir);
  const absl::StatusOr<StoreFile> found = CheckStoreFile(backup, /*thorough=*/false);
  if (found.ok() && found->schema > 0) {
    return "its backup of " + Utc(WrittenMs(backup)) +
           " is sound: svdllm-server --data_dir=" + Quoted(data_dir) +
           " --restore_backup puts it in place, and keeps what is there now under another name";
  }
  const std::string why = absl::IsNotFound(found.status()) ? "there is no backup"
                          : found.ok()                     ? "its backup is empty"
                                                           : Text(found.status());
  return why +
         ": put a copy of the job store in its place, or move it away and begin with an "
         "empty one";
}

std::string Described(const StoreFile& file) {
  int64_t jobs = 0;
  std::string states;
  for (const auto& [state, count] : file.jobs) {
    jobs += count;
    states += (states.empty() ? "" : ", ") + std::to_string(count) + " " +
              std::string(JobStateName(state));
  }
  return "schema " + std::to_string(file.schema) + ", " + std::to_string(file.bytes) +
         " bytes, jobs: " + std::to_string(jobs) + (states.empty() ? "" : " (" + states + ")");
}

// Prints a line about a file; whether it is sound.
bool PrintCheck(const std::string& path) {
  const absl::StatusOr<StoreFile> found = CheckStoreFile(path, /*thorough=*/true);
  if (!found.ok()) {
    std::printf("%s\n", Text(found.status()).c_str());
    return false;
  }
  const char* const verdict = found->schema == 0 ? "empty"
                              : found->is_known  ? "sound"
                                                 : "of a newer version";
  std::printf("%s: %s, %s\n", path.c_str(), verdict, Described(*found).c_str());
  return found->schema > 0 && found->is_known;
}

}  // namespace

std::string StorePath(const std::string& data_dir) { return data_dir + "/jobs.db"; }
std::string BackupPath(const std::string& data_dir) { return StorePath(data_dir) + ".backup"; }

absl::Status PrepareStore(const std::string& data_dir, bool restore) {
  const std::string path = StorePath(data_dir), backup = BackupPath(data_dir);
  const absl::StatusOr<StoreFile> found = CheckStoreFile(path, /*thorough=*/false);
  std::string fault;
  if (found.ok()) {
    // A server that began with an empty store would soon back that up too.
    if (found->schema > 0 || !Exists(backup)) {
      if (restore) Log(LogLevel::kInfo, "the job store is sound, nothing is restored");
      return absl::OkStatus();
    }
    fault = path + " is empty";
  } else if (absl::IsNotFound(found.status())) {
    if (!Exists(backup)) return absl::OkStatus();
    fault = path + " is gone";
  } else if (absl::IsDataLoss(found.status())) {
    fault = Text(found.status());
  } else {
    return found.status();
  }
  if (!restore || !Exists(backup)) {
    return MakeError(absl::StatusCode::kDataLoss, kStoreUnavailable,
                     "job store " + fault + "; " + Advice(data_dir));
  }
  const int64_t written_ms = WrittenMs(backup);
  ASSIGN_OR_RETURN(const std::string kept, RestoreStore(backup, path));
  Log(LogLevel::kWarning, "the job store was restored from its backup",
      {{"fault", fault}, {"backup_of", Utc(written_ms)}, {"kept", kept}});
  return absl::OkStatus();
}

int PrintStoreCheck(const std::string& data_dir) {
  bool sound = PrintCheck(StorePath(data_dir));
  const std::string backup = BackupPath(data_dir);
  if (Exists(backup)) {
    const bool backup_is_sound = PrintCheck(backup);
    std::printf("%s: written %s\n", backup.c_str(), Utc(WrittenMs(backup)).c_str());
    if (!sound && backup_is_sound) std::printf("%s\n", Advice(data_dir).c_str());
    sound = sound && backup_is_sound;
  } else {
    std::printf("%s: there is no backup\n", backup.c_str());
  }
  return sound ? 0 : 1;
}

int64_t UntilBackupMs(const std::string& data_dir, int64_t interval_ms) {
  const int64_t age_ms = WallMs() - WrittenMs(BackupPath(data_dir));
  // A time yet to come says nothing.
  return age_ms < 0 ? 0 : std::max<int64_t>(interval_ms - age_ms, 0);
}

void BackUp(const std::string& data_dir) {
  const std::string backup = BackupPath(data_dir);
  const absl::Status status = BackUpStore(StorePath(data_dir), backup);
  if (absl::IsDataLoss(status)) {
    Log(LogLevel::kError, "the job store is damaged, its backup stays as it was",
        {{"error", status.ToString()}});
  } else if (!status.ok()) {
    Log(LogLevel::kWarning, "the job store was not backed up", {{"error", status.ToString()}});
  } else {
    Log(LogLevel::kDebug, "the job store was backed up", {{"file", backup}});
  }
}

}  // namespace svdllm
