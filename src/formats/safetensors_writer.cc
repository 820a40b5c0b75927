#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/json.h"
#include "formats/safetensors.h"

namespace svdllm {
namespace {

absl::Status Invalid(const std::string& path, const std::string& name, std::string_view what) {
  return absl::InvalidArgumentError(path + ": " + name + ": " + std::string(what));
}

}  // namespace

struct SafetensorsWriter::Impl {
  struct Extent {
    int64_t begin = 0;  // in the file
    int64_t bytes = 0;
    int64_t written = 0;   // bytes
    bool touched = false;  // of no bytes, a tensor is written too

    bool done() const { return touched && written == bytes; }
  };
  std::string path;
  int fd = -1;
  std::map<std::string, Extent> extents;

  // A file that was not finished has a sound header over absent weights: it must not stay.
  ~Impl() {
    if (fd < 0) return;
    close(fd);
    unlink(path.c_str());
  }

  absl::Status WriteAt(int64_t offset, const void* data, size_t count) {
    const char* next = static_cast<const char*>(data);
    while (count > 0) {
      const ssize_t n = pwrite(fd, next, count, offset);
      if (n < 0) {
        if (errno == EINTR) continue;
        return ErrnoToStatus(errno, "write", path);
      }
      next += n;
      offset += n;
      count -= static_cast<size_t>(n);
    }
    return absl::OkStatus();
  }
};

SafetensorsWriter::SafetensorsWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SafetensorsWriter::SafetensorsWriter(SafetensorsWriter&&) noexcept = default;
SafetensorsWriter& SafetensorsWriter::operator=(SafetensorsWriter&&) noexcept = default;
SafetensorsWriter::~SafetensorsWriter() = default;

absl::StatusOr<SafetensorsWriter> SafetensorsWriter::Create(
    const std::string& path, const std::vector<TensorSpec>& tensors) {
  auto impl = std::make_unique<Impl>();
  impl->path = path;

  // transformers refuses a file without this entry.
  std::string text = R"({"__metadata__":{"format":"pt"})";
  int64_t data_bytes = 0;
  for (const TensorSpec& tensor : tensors) {
    const bool foreign = !tensor.foreign_type.empty();
    int64_t bytes = foreign ? 1 : static_cast<int64_t>(SizeOf(tensor.dtype));
    for (const int64_t dimension : tensor.shape) {
      if (dimension < 0 || __builtin_mul_overflow(bytes, dimension, &bytes)) {
        return Invalid(path, tensor.name, "impossible shape");
      }
    }
    if (foreign) bytes = tensor.foreign_bytes;  // only its reader knows what an element takes
    if (bytes < 0) return Invalid(path, tensor.name, "impossible size");
    const int64_t begin = data_bytes;
    if (__builtin_add_overflow(data_bytes, bytes, &data_bytes)) {
      return Invalid(path, tensor.name, "impossible shape");
    }
    if (tensor.name == "__metadata__" ||
        !impl->extents.emplace(tensor.name, Impl::Extent{begin, bytes}).second) {
      return Invalid(path, tensor.name, "name used twice");
    }
    try {
      text += ',' + nlohmann::json(tensor.name).dump() + R"(:{"dtype":)" +
              nlohmann::json(tensor.type_name()).dump() + R"(,"shape":)" +
              nlohmann::json(tensor.shape).dump() + R"(,"data_offsets":[)" + std::to_string(begin) +
              ',' + std::to_string(data_bytes) + "]}";
    } catch (const nlohmann::json::exception&) {
      return Invalid(path, Printable(tensor.name), "the name is not UTF-8");
    }
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t header_bytes = text.size();
  const int64_t data_begin = static_cast<int64_t>(sizeof(header_bytes) + header_bytes);
  for (auto& [name, extent] : impl->extents) extent.begin += data_begin;

  impl->fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (impl->fd < 0) return ErrnoToStatus(errno, "create", path);
  if (const int error = posix_fallocate(impl->fd, 0, data_begin + data_bytes); error != 0) {
    return ErrnoToStatus(error, "allocate " + std::to_string(data_begin + data_bytes) + " bytes in",
                         path);
  }
  RETURN_IF_ERROR(impl->WriteAt(0, &header_bytes, sizeof(header_bytes)));
  RETURN_IF_ERROR(impl->WriteAt(sizeof(header_bytes), text.data(), text.size()));
  return SafetensorsWriter(std::move(impl));
}

absl::Status SafetensorsWriter::Write(const std::string& name, std::span<const std::byte> bytes) {
  const auto it = impl_->extents.find(name);
  if (it != impl_->extents.end() && static_cast<int64_t>(bytes.size()) != it->second.bytes) {
    return Invalid(impl_->path, name,
                   std::to_string(bytes.size()) + " bytes given, " +
                       std::to_string(it->second.bytes) + " declared");
  }
  return WritePart(name, 0, bytes);
}

absl::Status SafetensorsWriter::WritePart(const std::string& name, int64_t offset,
                                          std::span<const std::byte> bytes) {
  const auto it = impl_->extents.find(name);
  if (it == impl_->extents.end()) return Invalid(impl_->path, name, "not declared");
  Impl::Extent& extent = it->second;
  const auto count = static_cast<int64_t>(bytes.size());
  if (offset < 0 || count > extent.bytes || offset > extent.bytes - count) {
    return Invalid(impl_->path, name,
                   std::to_string(count) + " bytes from " + std::to_string(offset) + " on given, " +
                       std::to_string(extent.bytes) + " declared");
  }
  if (extent.done() || extent.written + count > extent.bytes) {
    return absl::FailedPreconditionError(impl_->path + ": " + name + ": written before");
  }
  RETURN_IF_ERROR(impl_->WriteAt(extent.begin + offset, bytes.data(), bytes.size()));
  extent.written += count;
  extent.touched = true;
  return absl::OkStatus();
}

absl::Status SafetensorsWriter::Finish() {
  if (impl_->fd >= 0 && fsync(impl_->fd) != 0) {
    return ErrnoToStatus(errno, "fsync", impl_->path);
  }
  return Close();
}

absl::Status SafetensorsWriter::Close() {
  if (impl_->fd < 0) return absl::FailedPreconditionError(impl_->path + ": finished before");
  for (const auto& [name, extent] : impl_->extents) {
    if (!extent.done()) {
      return absl::FailedPreconditionError(impl_->path + ": " + name + ": never written");
    }
  }
  const int fd = std::exchange(impl_->fd, -1);
  if (close(fd) != 0) return ErrnoToStatus(errno, "close", impl_->path);
  return absl::OkStatus();
}

}  // namespace svdllm
