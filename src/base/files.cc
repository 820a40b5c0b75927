#include "base/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/failpoint.h"
#include "base/map_guard.h"

namespace svdllm {
namespace {

// A directory below which files may be read, without links in its path.
struct Root {
  std::string path;
  Descriptor directory;
};

// Empty: files may be read anywhere. Left to the system when the process ends.
std::vector<Root>& Roots() {
  static auto& roots = *new std::vector<Root>();
  return roots;
}

// Without links; empty where there is no such path, with errno.
std::string RealPath(const std::string& path) {
  char* const resolved = realpath(path.c_str(), nullptr);
  if (resolved == nullptr) return "";
  std::string real = resolved;
  std::free(resolved);
  return real;
}

int OpenBelow(int directory, const std::string& path, int flags, uint64_t resolve) {
  open_how how = {};
  how.flags = static_cast<uint64_t>(flags);
  how.resolve = resolve | RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  int fd = -1;
  // EAGAIN: something was renamed on the way, and the kernel cannot tell whether it led out.
  for (int i = 0; i < 100; ++i) {
    fd = static_cast<int>(syscall(SYS_openat2, directory, path.c_str(), &how, sizeof(how)));
    if (fd >= 0 || errno != EAGAIN) break;
  }
  return fd;
}

// Below the root that the path begins with; EXDEV where it lies below none or leads out.
int OpenBelowRoots(const std::string& path, int flags, uint64_t resolve) {
  for (const Root& root : Roots()) {
    const size_t length = root.path == "/" ? 0 : root.path.size();
    if (!path.starts_with(root.path) || (path.size() > length && path[length] != '/')) continue;
    const size_t begin = path.find_first_not_of('/', length);
    const std::string rest = begin == std::string::npos ? "." : path.substr(begin);
    const int fd = OpenBelow(root.directory.get(), rest, flags, resolve);
    if (fd >= 0 || errno != EXDEV) return fd;
  }
  errno = EXDEV;
  return -1;
}

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

Descriptor::~Descriptor() {
  if (fd_ >= 0) close(fd_);
}

bool CanConfineReads() {
  return Descriptor(OpenBelow(AT_FDCWD, ".", O_PATH | O_CLOEXEC, 0)).get() >= 0 ||
         (errno != ENOSYS && errno != EPERM);  // EPERM: a container's filter that knows it not
}

absl::Status ConfineReads(const std::vector<std::string>& directories) {
  if (!CanConfineReads()) return absl::UnimplementedError("the kernel has no openat2");
  std::vector<Root> roots;
  for (const std::string& directory : directories) {
    std::string path = RealPath(directory);
    Descriptor fd(open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (fd.get() < 0) return ErrnoToStatus(errno, "open", directory);
    roots.push_back({std::move(path), std::move(fd)});
  }
  Roots().swap(roots);
  return absl::OkStatus();
}

int OpenForReading(const std::string& path, int flags) {
  flags |= O_RDONLY | O_CLOEXEC;
  if (Roots().empty()) return open(path.c_str(), flags);
  int fd = OpenBelowRoots(path, flags, 0);
  if (fd < 0 && errno == EXDEV) {
    // A link into another root, or an absolute one. Where it leads is opened without any link, so
    // that what has been swapped since it was looked up does not matter.
    const std::string real = RealPath(path);
    if (!real.empty()) fd = OpenBelowRoots(real, flags, RESOLVE_NO_SYMLINKS);
    if (fd < 0 && (errno == EXDEV || errno == ELOOP)) errno = EACCES;
  }
  return fd;
}

absl::StatusOr<Descriptor> OpenRegular(const std::string& path, int64_t* size) {
  Descriptor fd(OpenForReading(path, O_NONBLOCK));
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

std::vector<std::string> NamesIn(const std::string& dir) {
  std::vector<std::string> names;
  const int fd = OpenForReading(dir, O_DIRECTORY | O_NONBLOCK);
  DIR* const entries = fd >= 0 ? fdopendir(fd) : nullptr;
  if (entries == nullptr) return names;
  while (const dirent* const entry = readdir(entries)) {
    const std::string name = entry->d_name;
    if (name != "." && name != "..") names.push_back(name);
  }
  closedir(entries);
  std::sort(names.begin(), names.end());
  return names;
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
