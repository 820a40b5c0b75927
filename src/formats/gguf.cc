#include "formats/gguf.h"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/json.h"
#include "formats/gguf_quants.h"

namespace svdllm {
namespace {

// The format's numbers for value types.
enum ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64
};
constexpr int64_t kDefaultAlignment = 32;
constexpr int64_t kMaxDimensions = 4;
constexpr int kMaxArrayDepth = 4;
constexpr size_t kMaxNameBytes = 1024;
constexpr uint64_t kMaxElements = uint64_t{1} << 24;  // no vocabulary is larger

// 1e-5f is meant to be 1e-5, not 9.99999974737875163555e-06.
double Shortest(float value) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof(text), value).ptr;
  double shortest = value;
  std::from_chars(text, end, shortest);
  return shortest;
}

// Of a fixed-size type; 0 for strings, arrays and unknown ones.
size_t SizeOfType(uint32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    case kUint64:
    case kInt64:
    case kFloat64:
      return 8;
    default:
      return 0;
  }
}

}  // namespace

// Reads a file's head once, front to back.
class GgufParser {
 public:
  explicit GgufParser(GgufFile& file) : file_(file), rest_(file.file_.bytes()) {}

  absl::Status Run() {
    static_assert(std::endian::native == std::endian::little);
    ASSIGN_OR_RETURN(const auto magic, Take(4, "magic"));
    if (std::memcmp(magic.data(), "GGUF", 4) != 0) return file_.Corrupt("not a GGUF file");
    ASSIGN_OR_RETURN(const uint32_t version, Number<uint32_t>("version"));
    if (version != 2 && version != 3) {
      return file_.Corrupt("version " + std::to_string(version) + " is not 2 or 3" +
                           ((version & 0xffff) == 0 ? ": a big-endian file?" : ""));
    }
    ASSIGN_OR_RETURN(const uint64_t tensors, Number<uint64_t>("tensor count"));
    ASSIGN_OR_RETURN(const uint64_t values, Number<uint64_t>("metadata count"));
    // Each takes more than eight bytes: a count that fits bounds what is allocated.
    if (tensors > rest_.size() / 8 || values > rest_.size() / 8) {
      return file_.Corrupt("more tensors or metadata than the file can hold");
    }
    for (uint64_t i = 0; i < values; ++i) RETURN_IF_ERROR(ReadMetadata());
    return ReadTensors(tensors);
  }

 private:
  absl::StatusOr<std::span<const std::byte>> Take(uint64_t bytes, std::string_view what) {
    if (bytes > rest_.size()) return file_.Corrupt(Printable(what) + ": the file ends in it");
    const auto taken = rest_.first(bytes);
    rest_ = rest_.subspan(bytes);
    return taken;
  }

  template <typename T>
  absl::StatusOr<T> Number(std::string_view what) {
    ASSIGN_OR_RETURN(const auto bytes, Take(sizeof(T), what));
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }

  absl::StatusOr<std::string> Text(std::string_view what) {
    ASSIGN_OR_RETURN(const uint64_t length, Number<uint64_t>(what));
    ASSIGN_OR_RETURN(const auto bytes, Take(length, what));
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }

  absl::StatusOr<std::string> Name(std::string_view what) {
    ASSIGN_OR_RETURN(std::string name, Text(what));
    if (name.empty() || name.size() > kMaxNameBytes) {
      return file_.Corrupt(std::string(what) + ": impossible name " + Printable(name));
    }
    return name;
  }

  template <typename T>
  absl::StatusOr<int64_t> Whole(std::string_view key) {
    ASSIGN_OR_RETURN(const T value, Number<T>(key));
    if constexpr (std::is_same_v<T, uint64_t>) {
      if (value > uint64_t{std::numeric_limits<int64_t>::max()}) {
        return file_.Corrupt(Printable(key) + ": " + std::to_string(value) + " is too large");
      }
    }
    return static_cast<int64_t>(value);
  }

  absl::StatusOr<int64_t> WholeOfType(uint32_t type, std::string_view key) {
    switch (type) {
      case kUint8:
      case kBool:
        return Whole<uint8_t>(key);
      case kInt8:
        return Whole<int8_t>(key);
      case kUint16:
        return Whole<uint16_t>(key);
      case kInt16:
        return Whole<int16_t>(key);
      case kUint32:
        return Whole<uint32_t>(key);
      case kInt32:
        return Whole<int32_t>(key);
      case kUint64:
        return Whole<uint64_t>(key);
      default:
        return Whole<int64_t>(key);
    }
  }

  absl::StatusOr<double> Real(uint32_t type, std::string_view key) {
    if (type == kFloat64) return Number<double>(key);
    ASSIGN_OR_RETURN(const float value, Number<float>(key));
    return value;
  }

  absl::StatusOr<GgufValue> Value(uint32_t type, const std::string& key, int depth) {
    if (type == kArray) return Array(key, depth);
    if (type == kString) {
      ASSIGN_OR_RETURN(std::string text, Text(key));
      return GgufValue(std::move(text));
    }
    if (SizeOfType(type) == 0) {
      return file_.Corrupt(Printable(key) + ": unknown value type " + std::to_string(type));
    }
    if (type == kFloat32 || type == kFloat64) {
      ASSIGN_OR_RETURN(const double value, Real(type, key));
      return GgufValue(type == kFloat32 ? Shortest(static_cast<float>(value)) : value);
    }
    ASSIGN_OR_RETURN(const int64_t value, WholeOfType(type, key));
    return GgufValue(value);
  }

  template <typename T, typename ReadOne>
  absl::StatusOr<GgufValue> Elements(uint64_t count, ReadOne read) {
    std::vector<T> values;
    values.reserve(count);
    for (uint64_t i = 0; i < count; ++i) {
      ASSIGN_OR_RETURN(T value, read());
      values.push_back(std::move(value));
    }
    return GgufValue(std::move(values));
  }

  absl::StatusOr<GgufValue> Array(const std::string& key, int depth) {
    if (depth >= kMaxArrayDepth) return file_.Corrupt(Printable(key) + ": arrays too deep");
    ASSIGN_OR_RETURN(const uint32_t type, Number<uint32_t>(key));
    ASSIGN_OR_RETURN(const uint64_t count, Number<uint64_t>(key));
    const size_t least = type == kString || type == kArray ? 8 : SizeOfType(type);
    if (least == 0) {
      return file_.Corrupt(Printable(key) + ": unknown value type " + std::to_string(type));
    }
    if (count > kMaxElements) return file_.Corrupt(Printable(key) + ": too many elements");
    if (count > rest_.size() / least)
      return file_.Corrupt(Printable(key) + ": the file ends in it");
    if (type == kArray) {
      for (uint64_t i = 0; i < count; ++i) RETURN_IF_ERROR(Array(key, depth + 1).status());
      return GgufValue();
    }
    if (type == kString) return Elements<std::string>(count, [&] { return Text(key); });
    if (type == kFloat32 || type == kFloat64) {
      return Elements<double>(count, [&] { return Real(type, key); });
    }
    return Elements<int64_t>(count, [&] { return WholeOfType(type, key); });
  }

  absl::Status ReadMetadata() {
    ASSIGN_OR_RETURN(std::string key, Name("metadata"));
    ASSIGN_OR_RETURN(const uint32_t type, Number<uint32_t>(key));
    ASSIGN_OR_RETURN(GgufValue value, Value(type, key, 0));
    if (!file_.metadata_.emplace(key, std::move(value)).second) {
      return file_.Corrupt(Printable(key) + ": appears twice");
    }
    return absl::OkStatus();
  }

  absl::Status ReadTensors(uint64_t count) {
    std::vector<std::pair<std::string, uint64_t>> offsets;
    for (uint64_t i = 0; i < count; ++i) {
      ASSIGN_OR_RETURN(std::string name, Name("tensor"));
      GgufTensor tensor;
      ASSIGN_OR_RETURN(const uint32_t dimensions, Number<uint32_t>(name));
      if (dimensions > kMaxDimensions) {
        return file_.Corrupt(Printable(name) + ": " + std::to_string(dimensions) + " dimensions");
      }
      for (uint32_t d = 0; d < dimensions; ++d) {
        ASSIGN_OR_RETURN(const int64_t size, Whole<uint64_t>(name));
        if (size < 1)
          return file_.Corrupt(Printable(name) + ": a dimension of " + std::to_string(size));
        tensor.shape.insert(tensor.shape.begin(), size);  // the file has the fastest first
      }
      ASSIGN_OR_RETURN(tensor.type, Number<uint32_t>(name));
      ASSIGN_OR_RETURN(const uint64_t offset, Number<uint64_t>(name));
      offsets.emplace_back(name, offset);
      if (!file_.tensors_.emplace(name, std::move(tensor)).second) {
        return file_.Corrupt(Printable(name) + ": appears twice");
      }
    }
    ASSIGN_OR_RETURN(const auto given, file_.Int("general.alignment"));
    const int64_t alignment = given.value_or(kDefaultAlignment);
    if (alignment < 1 || alignment > 1 << 20 || !std::has_single_bit(uint64_t(alignment))) {
      return file_.Corrupt("general.alignment: " + std::to_string(alignment));
    }
    const size_t head = file_.file_.bytes().size() - rest_.size();
    const size_t padding = -head & (static_cast<size_t>(alignment) - 1);
    const auto data = rest_.subspan(std::min(padding, rest_.size()));
    for (const auto& [name, offset] : offsets) {
      RETURN_IF_ERROR(Place(name, offset, static_cast<uint64_t>(alignment), data));
    }
    return absl::OkStatus();
  }

  absl::Status Place(const std::string& name, uint64_t offset, uint64_t alignment,
                     std::span<const std::byte> data) {
    GgufTensor& tensor = file_.tensors_.at(name);
    const GgmlType* type = FindGgmlType(tensor.type);
    if (type == nullptr) return absl::OkStatus();  // refused when asked for
    const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
    if (row % static_cast<int64_t>(type->block_elements) != 0) {
      return file_.Corrupt(Printable(name) + ": rows of " + std::to_string(row) +
                           " are no whole blocks of " + type->name);
    }
    uint64_t elements = 1;
    for (const int64_t d : tensor.shape) {
      if (__builtin_mul_overflow(elements, static_cast<uint64_t>(d), &elements)) {
        return file_.Corrupt(Printable(name) + ": impossible shape");
      }
    }
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(elements / type->block_elements, type->block_bytes, &bytes)) {
      return file_.Corrupt(Printable(name) + ": impossible shape");
    }
    if (offset % alignment != 0 || offset > data.size() || bytes > data.size() - offset) {
      return file_.Corrupt(Printable(name) + ": not in the file's data");
    }
    tensor.bytes = data.subspan(offset, bytes);
    return absl::OkStatus();
  }

  GgufFile& file_;
  std::span<const std::byte> rest_;
};

namespace {

constexpr std::string_view kExtension = ".gguf";

// "front-00002-of-00003.gguf", as llama.cpp names the parts of a model.
struct PartName {
  std::string front;
  int64_t number = 0, count = 0;

  std::string Path(int64_t part) const {
    char back[64];
    std::snprintf(back, sizeof(back), "-%05d-of-%05d", static_cast<int>(part),
                  static_cast<int>(count));
    return front + back + std::string(kExtension);
  }
};

std::optional<PartName> ParsePartName(const std::string& path) {
  constexpr size_t kBack = std::string_view("-00001-of-00001.gguf").size();
  if (path.size() < kBack) return std::nullopt;
  PartName name{path.substr(0, path.size() - kBack), 0, 0};
  const char* back = path.data() + name.front.size();
  std::from_chars(back + 1, back + 6, name.number);
  std::from_chars(back + 10, back + 15, name.count);
  // Whatever else it is, its name is not made of these two numbers.
  const bool is_part = name.number >= 1 && name.number <= name.count && name.count <= 99999;
  return is_part && name.Path(name.number) == path ? std::optional(name) : std::nullopt;
}

absl::Status CorruptFile(const std::string& path, std::string_view what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                   path + ": " + std::string(what));
}

}  // namespace

absl::StatusOr<GgufFile> GgufFile::OpenOne(const std::string& path) {
  absl::StatusOr<MappedFile> mapped = MappedFile::Open(path);
  if (absl::IsInvalidArgument(mapped.status())) {
    return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                     std::string(mapped.status().message()));
  }
  GgufFile file;
  ASSIGN_OR_RETURN(file.file_, std::move(mapped));
  const std::span<const std::byte> bytes = file.file_.bytes();
  if (IsLfsPointer({reinterpret_cast<const char*>(bytes.data()), bytes.size()})) {
    return file.Corrupt(kLfsAdvice);
  }
  RETURN_IF_ERROR(GgufParser(file).Run());
  return file;
}

absl::Status GgufFile::AddPart(GgufFile& part, int64_t number, int64_t count) {
  ASSIGN_OR_RETURN(const auto own_number, part.Int("split.no"));
  ASSIGN_OR_RETURN(const auto own_count, part.Int("split.count"));
  if (own_number.value_or(-1) != number - 1 || own_count.value_or(0) != count) {
    return part.Corrupt("split.no and split.count are not those of part " + std::to_string(number) +
                        " of " + std::to_string(count) + ", which its name says it is");
  }
  for (auto& [name, tensor] : part.tensors_) {
    if (!tensors_.emplace(name, std::move(tensor)).second) {
      return part.Corrupt(Printable(name) + ": in another part, too");
    }
  }
  if (number == 1) {
    file_ = std::move(part.file_);
    metadata_ = std::move(part.metadata_);
  } else {
    other_parts_.push_back(std::move(part.file_));
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufFile> GgufFile::Open(const std::string& path) {
  ASSIGN_OR_RETURN(GgufFile file, OpenOne(path));
  ASSIGN_OR_RETURN(const auto split, file.Int("split.count"));
  const int64_t count = split.value_or(0);
  if (count <= 1) return file;
  const std::optional<PartName> name = ParsePartName(path);
  if (!name || name->count != count) {
    return file.Corrupt("split.count: one of " + std::to_string(count) +
                        " parts, and its name does not end in -00001-of-" +
                        PartName{"", 1, count}.Path(1).substr(10) +
                        " or the like, so that the others cannot be found");
  }
  GgufFile whole;
  for (int64_t number = 1; number <= count; ++number) {
    absl::StatusOr<GgufFile> part = OpenOne(name->Path(number));
    if (absl::IsNotFound(part.status())) {
      return file.Corrupt("part " + name->Path(number) + " is missing");
    }
    RETURN_IF_ERROR(part.status());
    RETURN_IF_ERROR(whole.AddPart(*part, number, count));
  }
  ASSIGN_OR_RETURN(const auto tensors, whole.Int("split.tensors.count"));
  if (tensors && *tensors != static_cast<int64_t>(whole.tensors_.size())) {
    return whole.Corrupt("split.tensors.count: " + std::to_string(*tensors) +
                         ", and the parts hold " + std::to_string(whole.tensors_.size()));
  }
  return whole;
}

absl::Status GgufFile::Corrupt(std::string_view what) const {
  return CorruptFile(file_.path(), what);
}

namespace {

template <typename T>
absl::StatusOr<const T*> Get(const GgufFile& file, const std::string& key, const char* kind) {
  const auto it = file.metadata().find(key);
  if (it == file.metadata().end()) return nullptr;
  if (const T* value = std::get_if<T>(&it->second)) return value;
  return file.Corrupt(key + ": not " + kind);
}

}  // namespace

absl::StatusOr<std::optional<int64_t>> GgufFile::Int(const std::string& key) const {
  ASSIGN_OR_RETURN(const int64_t* value, Get<int64_t>(*this, key, "a whole number"));
  return value == nullptr ? std::nullopt : std::optional<int64_t>(*value);
}

absl::StatusOr<std::optional<double>> GgufFile::Double(const std::string& key) const {
  const auto it = metadata_.find(key);
  if (it != metadata_.end() && std::holds_alternative<int64_t>(it->second)) {
    return static_cast<double>(std::get<int64_t>(it->second));
  }
  ASSIGN_OR_RETURN(const double* value, Get<double>(*this, key, "a number"));
  return value == nullptr ? std::nullopt : std::optional<double>(*value);
}

absl::StatusOr<std::optional<std::string>> GgufFile::String(const std::string& key) const {
  ASSIGN_OR_RETURN(const std::string* value, Get<std::string>(*this, key, "a text"));
  return value == nullptr ? std::nullopt : std::optional<std::string>(*value);
}

absl::StatusOr<const std::vector<std::string>*> GgufFile::Strings(const std::string& key) const {
  return Get<std::vector<std::string>>(*this, key, "an array of texts");
}

absl::StatusOr<const std::vector<int64_t>*> GgufFile::Ints(const std::string& key) const {
  return Get<std::vector<int64_t>>(*this, key, "an array of whole numbers");
}

absl::StatusOr<const std::vector<double>*> GgufFile::Doubles(const std::string& key) const {
  return Get<std::vector<double>>(*this, key, "an array of numbers");
}

absl::StatusOr<std::optional<std::string>> GgufPathOf(const std::string& model_path) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_directory(model_path, error)) {
    return model_path.ends_with(kExtension) ? std::optional(model_path) : std::nullopt;
  }
  if (Exists(model_path + "/config.json")) return std::nullopt;
  std::optional<std::string> found;
  for (const std::string& name : NamesIn(model_path)) {
    if (!name.ends_with(kExtension)) continue;
    const std::string path = model_path + "/" + name;
    const std::optional<PartName> part = ParsePartName(path);
    const std::string first = part ? part->Path(1) : path;
    if (found && *found != first) {
      return CorruptFile(model_path, "several .gguf files: name the one that is meant");
    }
    found = first;
  }
  return found;
}

}  // namespace svdllm
