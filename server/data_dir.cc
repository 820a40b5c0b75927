#include "server/data_dir.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "base/files.h"
#include "base/logging.h"

namespace svdllm {
namespace {

constexpr mode_t kOthers = S_IRWXG | S_IRWXO;

// With those above it, which are made as the process's mask has it.
absl::Status MakePrivateDirectory(const std::string& path) {
  std::filesystem::path clean = std::filesystem::path(path).lexically_normal();
  if (!clean.has_filename()) clean = clean.parent_path();  // "a/" is "a"
  std::error_code error;
  std::filesystem::create_directories(clean.parent_path(), error);
  if (mkdir(path.c_str(), S_IRWXU) == 0 || errno == EEXIST) return absl::OkStatus();
  return ErrnoToStatus(errno, "create", path);
}

// Of what an earlier version made, or somebody by hand.
void TakeFromOthers(const std::string& path) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0 || S_ISLNK(info.st_mode) || (info.st_mode & kOthers) == 0) {
    return;
  }
  if (chmod(path.c_str(), info.st_mode & ~kOthers & 07777) == 0) {
    Log(LogLevel::kInfo, "taken from other users' eyes", {{"path", path}});
  } else {
    Log(LogLevel::kWarning, "other users may read it",
        {{"path", path}, {"why", ErrnoToStatus(errno, "chmod", path).ToString()}});
  }
}

}  // namespace

absl::Status PrepareDataDir(const std::string& data_dir) {
  RETURN_IF_ERROR(MakePrivateDirectory(data_dir));
  for (const char* name :
       {"/jobs.db", "/jobs.db-wal", "/jobs.db-shm", "/jobs.db.backup", "/server.lock", "/work"}) {
    TakeFromOthers(data_dir + name);
  }
  struct stat info;
  if (stat(data_dir.c_str(), &info) == 0 && (info.st_mode & kOthers) != 0) {
    Log(LogLevel::kWarning, "other users may enter data_dir; chmod 700 keeps them out",
        {{"path", data_dir}});
  }
  return absl::OkStatus();
}

absl::Status PrepareStoreFile(const std::string& data_dir) {
  const std::string store = data_dir + "/jobs.db";
  const Descriptor made(
      open(store.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (made.get() < 0 && errno != EEXIST) return ErrnoToStatus(errno, "create", store);
  return absl::OkStatus();
}

absl::StatusOr<std::string> PrepareWorkDir(const std::string& data_dir) {
  const std::string path = data_dir + "/work";
  RETURN_IF_ERROR(MakePrivateDirectory(path));
  return path;
}

}  // namespace svdllm
