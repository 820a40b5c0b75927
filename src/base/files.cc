#include "base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/failpoint.h"
#include "base/map_guard.h"

namespace svdllm {
namespace {

// Closes a descriptor when it goes out of scope.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

absl::Status WriteAll(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t n = write(fd, content.data(), content.size());
    if (n < 0) {
      if (errno == EINTR) continue;
      return ErrnoToStatus(errno, "write", path);
    }
    content.remove_prefix(static_cast<size_t>(n));
  }
  return absl::OkStatus();
}

absl::Status Refused(const std::string& path, const std::string& what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt, path + ": " + what);
}

// A file opened for reading, and its size. What is no file of bytes (a pipe, a device, a directory)
// is refused, and the opening of a pipe without a writer does not wait for one.
absl::StatusOr<Descriptor> OpenRegular(const std::string& path, int64_t* size) {
  Descriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (fd.get() < 0) {
    if (errno == ENXIO || errno == ENODEV) return Refused(path, "not a regular file");  // a socket
    if (errno == ELOOP) return Refused(path, "a symbolic link that leads in a circle");
    return ErrnoToStatus(errno, "open", path);
  }
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return ErrnoToStatus(errno, "stat", path);
  if (!S_ISREG(info.st_mode)) return Refused(path, "not a regular file");
  *size = info.st_size;
  return fd;
}

// Read, not mapped: a map of a file that somebody shortens meanwhile ends the process.
absl::StatusOr<std::string> ReadAt(int fd, const std::string& path, int64_t offset, int64_t size) {
  std::string content(static_cast<size_t>(size), '\0');
  size_t length = 0;
  while (length < content.size()) {
    const ssize_t n = pread(fd, content.data() + length, content.size() - length,
                            offset + static_cast<int64_t>(length));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoToStatus(errno, "read", path);
    if (n == 0) break;
    length += static_cast<size_t>(n);
  }
  content.resize(length);
  return content;
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

absl::Status ErrnoToStatus(int error, std::string_view what, std::string_view path) {
  std::string message(what);
  message.append(" ").append(path).append(": ").append(std::strerror(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message);
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return MakeError(absl::StatusCode::kResourceExhausted, kScratchFull, message);
    case EIO:
    case EREMOTEIO:
    case ESTALE:
    case EUCLEAN:
      return MakeError(absl::StatusCode::kUnavailable, kArtifactStoreUnavailable, message);
    case EEXIST:
    case ENOTEMPTY:
      return absl::AlreadyExistsError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  int64_t size = 0;
  ASSIGN_OR_RETURN(Descriptor fd, OpenRegular(path, &size));
  MappedFile file;
  file.path_ = path;
  file.size_ = static_cast<size_t>(size);
  file.fd_ = fd.Release();
  if (file.size_ > 0) {
    void* data = mmap(nullptr, file.size_, PROT_READ, MAP_PRIVATE, file.fd_, 0);
    if (data == MAP_FAILED) return ErrnoToStatus(errno, "mmap", path);
    file.data_ = static_cast<const std::byte*>(data);
    file.watch_ = WatchMap(data, file.size_, path);
  }
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept { *this = std::move(other); }

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(watch_, other.watch_);
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

MappedFile::~MappedFile() {
  ForgetMap(watch_);
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), size_);
  if (fd_ >= 0) close(fd_);
}

absl::StatusOr<std::string> MappedFile::Read(uint64_t offset, uint64_t size) const {
  const uint64_t left = size_ - std::min<uint64_t>(offset, size_);
  return ReadAt(fd_, path_, static_cast<int64_t>(offset),
                static_cast<int64_t>(std::min(size, left)));
}

void MappedFile::WillNeed(std::span<const std::byte> bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(bytes.data()) / page * page;
  const uintptr_t end = reinterpret_cast<uintptr_t>(bytes.data()) + bytes.size();
  // Advice: nothing depends on it.
  if (!bytes.empty()) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_WILLNEED);
}

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  int64_t size = 0;
  ASSIGN_OR_RETURN(const Descriptor fd, OpenRegular(path, &size));
  if (size > max_bytes) {
    return Refused(path, std::to_string(size) + " bytes, more than the " +
                             std::to_string(max_bytes) + " that are accepted");
  }
  return ReadAt(fd.get(), path, 0, size);
}

bool IsLfsPointer(std::string_view content) {
  return content.starts_with("version https://git-lfs.github.com/spec/");
}

absl::Status SyncPath(const std::string& path) {
  Descriptor fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) return ErrnoToStatus(errno, "open", path);
  if (fsync(fd.get()) != 0) return ErrnoToStatus(errno, "fsync", path);
  return absl::OkStatus();
}

absl::Status WriteFileAtomic(const std::string& path, std::string_view content) {
  const std::string temporary = path + ".tmp";
  {
    Descriptor fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (fd.get() < 0) return ErrnoToStatus(errno, "create", temporary);
    RETURN_IF_ERROR(WriteAll(fd.get(), content, temporary));
    if (fsync(fd.get()) != 0) return ErrnoToStatus(errno, "fsync", temporary);
  }
  Failpoint("file_synced");
  if (rename(temporary.c_str(), path.c_str()) != 0) return ErrnoToStatus(errno, "rename", path);
  Failpoint("file_renamed");
  return SyncPath(DirectoryOf(path));
}

absl::Status ReplaceFile(const std::string& path, std::string_view content,
                         const std::string& writer) {
  const std::string temporary = path + "." + writer + ".tmp";
  {
    Descriptor fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (fd.get() < 0) return ErrnoToStatus(errno, "create", temporary);
    RETURN_IF_ERROR(WriteAll(fd.get(), content, temporary));
  }
  if (rename(temporary.c_str(), path.c_str()) != 0) return ErrnoToStatus(errno, "rename", path);
  return absl::OkStatus();
}

absl::Status CopyFile(const std::string& from, const std::string& to) {
  ASSIGN_OR_RETURN(const std::string content, ReadFile(from));
  return WriteFileAtomic(to, content);
}

}  // namespace svdllm
