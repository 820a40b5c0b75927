// Files: read-only maps, whole-file reads and atomic writes. All paths are local.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace svdllm {

// Closes a descriptor when it goes out of scope; -1 is none.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor();
  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// From now on this process opens files for reading below these directories and nowhere else. A link
// that leads out of them is refused by the system while it opens the file, so that nothing that is
// swapped meanwhile gets by; links from one of them into another are followed. No directories:
// everything may be read, as at first. For a process's first lines, while no other thread opens
// files. UNIMPLEMENTED, and all stays as it was, where CanConfineReads() is false.
absl::Status ConfineReads(const std::vector<std::string>& directories);
// Whether the kernel has the call for it (openat2, Linux 5.6), and no filter takes it away.
bool CanConfineReads();

// open(2) for reading, with further flags, for whatever others may have put there. -1 with EACCES
// for what ConfineReads keeps out. Without O_NONBLOCK a pipe is waited for.
int OpenForReading(const std::string& path, int flags);
// A file of bytes, and its size. The errors of MappedFile::Open.
absl::StatusOr<Descriptor> OpenRegular(const std::string& path, int64_t* size);
// What is in a directory, sorted; nothing where it cannot be listed.
std::vector<std::string> NamesIn(const std::string& dir);

// A read-only memory map of a whole file, unmapped by the destructor. Movable. Several threads may
// read it.
class MappedFile {
 public:
  // NOT_FOUND where there is no such file, INVALID_ARGUMENT (MODEL_CORRUPT: what is read this way
  // is a model's) where it is a pipe, a device, a socket or a directory (none of which it waits
  // for), else the system's error with the path in it.
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  // Up to so many of the file's bytes from an offset on, as they are read: fewer where it has been
  // shortened since, which ends a process that looks at them in the map.
  absl::StatusOr<std::string> Read(uint64_t offset, uint64_t size) const;
  const std::string& path() const { return path_; }
  // Asks the system to read these bytes ahead. They are a view into a map.
  static void WillNeed(std::span<const std::byte> bytes);

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  int watch_ = -1;  // map_guard.h
  int fd_ = -1;
  std::string path_;
};

// Whether there is something at the path, or at the place that its links lead to.
bool Exists(const std::string& path);
// The whole file, as it is read once, whatever happens to it meanwhile. The errors of
// MappedFile::Open; INVALID_ARGUMENT where it is larger than max_bytes.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes = int64_t{1} << 34);
// Whether content is what a clone without Git LFS has in place of a file: three lines that name it.
bool IsLfsPointer(std::string_view content);
inline constexpr std::string_view kLfsAdvice =
    "a Git LFS pointer, not the file itself: fetch it with git lfs pull";
// Writes a temporary file beside path, syncs it, renames it over path and syncs the directory:
// after a crash path holds the old content or the new, never a mixture.
absl::Status WriteFileAtomic(const std::string& path, std::string_view content);
// The same without syncing anything: path never holds a mixture for those who look at it, but what
// is there after the machine has stopped is not known. `writer` tells the temporary files of
// several writers apart.
absl::Status ReplaceFile(const std::string& path, std::string_view content,
                         const std::string& writer);
// Copies bytes and syncs the copy.
absl::Status CopyFile(const std::string& from, const std::string& to);
// Syncs a file or a directory with fsync. For a directory this makes renames inside it durable.
absl::Status SyncPath(const std::string& path);
// Returns the status for an errno: NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED (SCRATCH_FULL),
// UNAVAILABLE (ARTIFACT_STORE_UNAVAILABLE: EIO), else INTERNAL; the message is "what path: why".
absl::Status ErrnoToStatus(int error, std::string_view what, std::string_view path);

}  // namespace svdllm
