// Files: read-only maps, whole-file reads and atomic writes. All paths are local.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/status.h"

namespace svdllm {

// A read-only memory map of a whole file. Movable; unmaps on destruction. Thread-safe to read.
class MappedFile {
 public:
  // NOT_FOUND where there is no such file, else the system's error with the path in it.
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::string& path() const { return path_; }
  // Asks the system to read these bytes ahead; a view into the map.
  static void WillNeed(std::span<const std::byte> bytes);

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
  std::string path_;
};

// Whether there is something at the path, or where its links lead.
bool Exists(const std::string& path);
// The whole file; INVALID_ARGUMENT where it is larger than max_bytes.
absl::StatusOr<std::string> ReadFile(const std::string& path, int64_t max_bytes = int64_t{1} << 34);
// Writes a temporary file beside path, syncs it, renames it over path and syncs the directory:
// after a crash path holds the old content or the new, never a mixture.
absl::Status WriteFileAtomic(const std::string& path, std::string_view content);
// Copies bytes and syncs the copy.
absl::Status CopyFile(const std::string& from, const std::string& to);
// fsync of a file or of a directory (which makes renames inside it durable).
absl::Status SyncPath(const std::string& path);
// The status for the current errno: NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED with reason
// SCRATCH_FULL (no space left), or INTERNAL; "what path: strerror".
absl::Status ErrnoToStatus(int error, std::string_view what, std::string_view path);

}  // namespace svdllm
