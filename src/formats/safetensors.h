// The safetensors file format: an 8-byte little-endian header length, a JSON header, the data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "base/status.h"
#include "linalg/dtype.h"

namespace svdllm {

// A tensor of an open file: a view into its memory map, row-major, little-endian. The format does
// not align data, so read it with ConvertElements or memcpy, not through a pointer to its type.
struct TensorView {
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
  // Owns bytes where they are not the file's but made for this view. Copies share them.
  std::shared_ptr<const void> owner = nullptr;

  int64_t elements() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
  }
};

// A tensor as it is stored, of whatever type: what a copy needs.
struct RawTensor {
  std::string_view type;  // safetensors' name of it: "F32", "I64", "F8_E4M3"; the file's
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;
};

// The type that a safetensors name means; none for those that nothing here computes with.
std::optional<DType> DTypeOf(std::string_view type);

// Whether none of a stored tensor's numbers is NaN or infinite. True for every type that has
// neither or is not known.
bool AllFinite(const RawTensor& tensor);

// A file opened for reading. Immutable, thread-safe.
//
// Open checks everything before it hands out a byte: the header's length against the file and
// against 100 MB, the JSON (no duplicate names, bounded nesting), every dtype, that shapes multiply
// without overflow to the extent that the offsets give, and that the extents cover the data section
// without gap or overlap.
// Anything else is INVALID_ARGUMENT with reason MODEL_CORRUPT and "file: tensor: what"; a Git LFS
// pointer, a pipe, a device or a directory is named for what it is.
// A tensor of an unknown dtype or of an integer one other than I32 is listed by name and refused by
// Get; Raw gives it too.
class SafetensorsFile {
 public:
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);

  // Returns a tensor. NOT_FOUND, with its name, where there is none.
  absl::StatusOr<TensorView> Get(const std::string& name) const;
  absl::StatusOr<RawTensor> Raw(const std::string& name) const;
  bool Has(const std::string& name) const { return entries_.count(name) > 0; }
  std::vector<std::string> Names() const;  // sorted
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& path() const { return file_.path(); }

 private:
  struct Entry {
    std::string dtype;
    std::vector<int64_t> shape;
    size_t begin = 0, end = 0;  // in the file
  };
  MappedFile file_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::string> metadata_;
};

struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  // Of a tensor that can only be copied, because its type is none of DType's: the type's name in
  // safetensors, and how many bytes the tensor takes. dtype says nothing then. Empty for all
  // others.
  std::string foreign_type = {};
  int64_t foreign_bytes = 0;

  std::string_view type_name() const {
    return foreign_type.empty() ? DTypeName(dtype) : std::string_view(foreign_type);
  }
  int64_t bytes() const {
    if (!foreign_type.empty()) return foreign_bytes;
    int64_t n = static_cast<int64_t>(SizeOf(dtype));
    for (const int64_t d : shape) n *= d;
    return n;
  }
};

// Writes a file whose tensors are known beforehand and arrive one by one, in any order. Data starts
// 8-byte aligned, and tensors lie in the order given. The format allows no padding, so mixed dtypes
// are best given widest first. The destructor removes a file that is not finished. Not thread-safe.
class SafetensorsWriter {
 public:
  // Creates the file at its full size: a disk that cannot hold it says so now (SCRATCH_FULL). An
  // older file at path is overwritten. INVALID_ARGUMENT for impossible shapes and repeated names.
  static absl::StatusOr<SafetensorsWriter> Create(const std::string& path,
                                                  const std::vector<TensorSpec>& tensors);
  SafetensorsWriter(SafetensorsWriter&&) noexcept;
  SafetensorsWriter& operator=(SafetensorsWriter&&) noexcept;
  ~SafetensorsWriter();

  // Writes a whole tensor in its declared dtype. INVALID_ARGUMENT for an unknown name or a wrong
  // length, FAILED_PRECONDITION for a name written before.
  absl::Status Write(const std::string& name, std::span<const std::byte> bytes);
  // Writes some of a tensor's bytes, from offset on. Parts must not overlap. INVALID_ARGUMENT for
  // an unknown name or for what reaches past the end, FAILED_PRECONDITION for more bytes than the
  // tensor has.
  absl::Status WritePart(const std::string& name, int64_t offset, std::span<const std::byte> bytes);
  // Checks that every tensor was written, syncs and closes.
  absl::Status Finish();
  // The same without syncing, which is the caller's then.
  absl::Status Close();

 private:
  struct Impl;
  explicit SafetensorsWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace svdllm
