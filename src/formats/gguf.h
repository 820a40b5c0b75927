// The GGUF file format, versions 2 and 3, little-endian: metadata, tensor descriptions, the data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/files.h"
#include "base/status.h"

namespace svdllm {

// A metadata value. Whole numbers and truth values are int64_t. Arrays of arrays are read over and
// become monostate.
using GgufValue = std::variant<std::monostate, int64_t, double, std::string, std::vector<int64_t>,
                               std::vector<double>, std::vector<std::string>>;

// A tensor of an open file, row-major: shape has the slowest dimension first, as in safetensors.
struct GgufTensor {
  uint32_t type = 0;  // ggml's number; see gguf_quants.h
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // empty where the type is not known
};

// A file opened for reading. Immutable and thread-safe.
//
// Open checks everything before it hands out a byte: counts and lengths against what is left of the
// file, value types, that names are unique, that rows are whole blocks of the type, and that every
// tensor lies in the data section. Anything else is INVALID_ARGUMENT with reason MODEL_CORRUPT and
// "file: key or tensor: what".
//
// A file that is one part of several (NAME-00002-of-00003.gguf) stands for all of them: the first
// one's metadata and everybody's tensors. The errors of Open name the part that is missing or does
// not belong to the others.
class GgufFile {
 public:
  static absl::StatusOr<GgufFile> Open(const std::string& path);

  const std::string& path() const { return file_.path(); }
  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }
  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }

  // A metadata value. None where there is no such key. INVALID_ARGUMENT with MODEL_CORRUPT, naming
  // the key, where its type is another; Double takes whole numbers too.
  absl::StatusOr<std::optional<int64_t>> Int(const std::string& key) const;
  absl::StatusOr<std::optional<double>> Double(const std::string& key) const;
  absl::StatusOr<std::optional<std::string>> String(const std::string& key) const;
  // Metadata arrays. nullptr where there is no such key.
  absl::StatusOr<const std::vector<std::string>*> Strings(const std::string& key) const;
  absl::StatusOr<const std::vector<int64_t>*> Ints(const std::string& key) const;
  absl::StatusOr<const std::vector<double>*> Doubles(const std::string& key) const;

  // Makes the error "file: what" with MODEL_CORRUPT.
  absl::Status Corrupt(std::string_view what) const;

 private:
  friend class GgufParser;
  static absl::StatusOr<GgufFile> OpenOne(const std::string& path);
  absl::Status AddPart(GgufFile& part, int64_t number, int64_t count);

  MappedFile file_;
  std::vector<MappedFile> other_parts_;
  std::map<std::string, GgufValue> metadata_;
  std::map<std::string, GgufTensor> tensors_;
};

// The GGUF file that a model's path means: the path itself where it ends in .gguf, or the only
// .gguf file of a directory without config.json, or the first part of the only one that is in
// parts. None for any other path; INVALID_ARGUMENT with MODEL_CORRUPT where such a directory has
// several.
absl::StatusOr<std::optional<std::string>> GgufPathOf(const std::string& model_path);

}  // namespace svdllm
