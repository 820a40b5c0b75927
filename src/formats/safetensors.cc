#include "formats/safetensors.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "base/json.h"

namespace svdllm {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;
constexpr uint64_t kHeadBytes = 64;  // the length and, of a Git LFS pointer, enough to know it

// Bytes of an element; 0 for a type that is not known here, whose extent cannot be checked.
uint64_t ElementBytes(std::string_view dtype) {
  static constexpr std::pair<std::string_view, uint64_t> kTypes[] = {
      {"F64", 8},     {"F32", 4},         {"F16", 2},         {"BF16", 2},    {"I64", 8},
      {"U64", 8},     {"I32", 4},         {"U32", 4},         {"I16", 2},     {"U16", 2},
      {"I8", 1},      {"U8", 1},          {"BOOL", 1},        {"F8_E4M3", 1}, {"F8_E5M2", 1},
      {"F8_E8M0", 1}, {"F8_E4M3FNUZ", 1}, {"F8_E5M2FNUZ", 1}, {"C64", 8}};
  for (const auto& [name, bytes] : kTypes) {
    if (name == dtype) return bytes;
  }
  return 0;
}

// What the header says of a tensor, unchecked.
struct RawEntry {
  std::string name;
  std::string dtype;
  bool has_shape = false;  // the shape of a scalar is empty
  std::vector<int64_t> shape;
  std::vector<uint64_t> offsets;
};

// Reads the header event by event: its form is fixed, so anything else stops at once, nothing is
// ever deeper than three levels, and equal keys (which a document tree would hide) are seen.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  std::vector<RawEntry> entries;
  std::map<std::string, std::string> metadata;
  std::string error;

  bool null() override { return Fail("null is not expected"); }
  bool boolean(bool) override { return Fail("a boolean is not expected"); }
  bool binary(binary_t&) override { return Fail("binary is not expected"); }
  bool number_float(double, const std::string& text) override {
    return Fail(Printable(text) + " is not an integer within 64 bits");
  }
  bool number_integer(int64_t value) override {
    return Fail("negative number " + std::to_string(value));
  }

  bool number_unsigned(uint64_t value) override {
    if (state_ == State::kShape) {
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        return Fail("dimension " + std::to_string(value) + " is too large");
      }
      entries.back().shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (state_ == State::kOffsets) {
      entries.back().offsets.push_back(value);
      return true;
    }
    return Fail("a number is not expected");
  }

  bool string(std::string& value) override {
    if (state_ == State::kMetadata) {
      metadata[key_] = value;
      return true;
    }
    if (state_ == State::kTensor && key_ == "dtype") {
      entries.back().dtype = value;
      return true;
    }
    return Fail("a string is not expected");
  }

  bool start_object(size_t) override {
    switch (state_) {
      case State::kStart:
        state_ = State::kTop;
        return true;
      case State::kTop:
        keys_.clear();
        if (name_ == "__metadata__") {
          state_ = State::kMetadata;
        } else {
          state_ = State::kTensor;
          entries.emplace_back().name = name_;
        }
        return true;
      default:
        return Fail("an object is not expected");
    }
  }

  bool end_object() override {
    state_ = state_ == State::kTop ? State::kEnd : State::kTop;
    return true;
  }

  bool start_array(size_t) override {
    if (state_ == State::kTensor && key_ == "shape") {
      state_ = State::kShape;
      entries.back().has_shape = true;
      return true;
    }
    if (state_ == State::kTensor && key_ == "data_offsets") {
      state_ = State::kOffsets;
      return true;
    }
    return Fail("an array is not expected");
  }

  bool end_array() override {
    state_ = State::kTensor;
    return true;
  }

  bool key(std::string& value) override {
    if (state_ == State::kTop) {
      name_ = value;
      key_.clear();
      if (!names_.insert(value).second) return Fail("the name appears twice");
      return true;
    }
    key_ = value;
    if (!keys_.insert(value).second) return Fail("the key appears twice");
    if (state_ == State::kTensor && value != "dtype" && value != "shape" &&
        value != "data_offsets") {
      return Fail("unknown key");
    }
    return true;
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::json::exception& exception) override {
    error = "header is not valid JSON at byte " + std::to_string(position) + ": " +
            Printable(exception.what());
    return false;
  }

 private:
  enum class State { kStart, kTop, kMetadata, kTensor, kShape, kOffsets, kEnd };

  bool Fail(std::string_view what) {
    error.clear();
    if (state_ != State::kStart) error += Printable(name_) + ": ";
    if (!key_.empty()) error += Printable(key_) + ": ";
    if (state_ == State::kStart) error += "header: ";
    error += what;
    return false;
  }

  State state_ = State::kStart;
  std::string name_, key_;
  std::set<std::string> names_, keys_;
};

absl::Status Corrupt(const std::string& path, std::string_view what) {
  return MakeError(absl::StatusCode::kInvalidArgument, kModelCorrupt,
                   path + ": " + std::string(what));
}

// The product of the dimensions from the left, so that TensorView::elements() cannot overflow
// either, times the size of an element.
bool ExtentOf(const std::vector<int64_t>& shape, uint64_t element_bytes, uint64_t* extent) {
  int64_t product = 1;
  for (const int64_t dimension : shape) {
    if (__builtin_mul_overflow(product, dimension, &product)) return false;
  }
  return !__builtin_mul_overflow(static_cast<uint64_t>(product), element_bytes, extent);
}

// Empty where the entry is sound: every part there, offsets ordered and inside the data, the extent
// what dtype and shape ask for.
std::string CheckEntry(const RawEntry& entry, uint64_t data_bytes) {
  if (entry.dtype.empty()) return "dtype is missing";
  if (!entry.has_shape) return "shape is missing";
  if (entry.offsets.size() != 2) return "data_offsets is missing or not two numbers";
  const uint64_t begin = entry.offsets[0], end = entry.offsets[1];
  if (begin > end) return "data_offsets end before they begin";
  if (end > data_bytes) {
    return "data_offsets reach to " + std::to_string(end) + ", past the end of the file's " +
           std::to_string(data_bytes) + " data bytes";
  }
  const uint64_t element_bytes = ElementBytes(entry.dtype);
  uint64_t extent = 0;
  if (!ExtentOf(entry.shape, std::max<uint64_t>(element_bytes, 1), &extent)) {
    return "shape is too large";
  }
  if (element_bytes != 0 && extent != end - begin) {
    return "shape and dtype " + entry.dtype + " ask for " + std::to_string(extent) +
           " bytes, data_offsets give " + std::to_string(end - begin);
  }
  return "";
}

}  // namespace

std::optional<DType> DTypeOf(std::string_view type) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16, DType::kI32}) {
    if (DTypeName(dtype) == type) return dtype;
  }
  return std::nullopt;
}

bool AllFinite(const RawTensor& tensor) {
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    if (DTypeName(dtype) != tensor.type) continue;
    return AllFiniteElements(tensor.bytes.data(), dtype, tensor.bytes.size() / SizeOf(dtype));
  }
  if (tensor.type == "C64") {  // two F32 each
    return AllFiniteElements(tensor.bytes.data(), DType::kF32, tensor.bytes.size() / 4);
  }
  // Of the eight-bit types: which bits decide, and the value of them from which on it is no number.
  struct Row {
    std::string_view type;
    unsigned mask, first;
  };
  static constexpr Row kEightBit[] = {{"F8_E4M3", 0x7f, 0x7f},
                                      {"F8_E5M2", 0x7f, 0x7c},
                                      {"F8_E8M0", 0xff, 0xff},
                                      {"F8_E4M3FNUZ", 0xff, 0x80},
                                      {"F8_E5M2FNUZ", 0xff, 0x80}};
  for (const Row& row : kEightBit) {
    if (row.type != tensor.type) continue;
    const bool exact = row.type.ends_with("FNUZ");  // negative zero is the only NaN
    return std::none_of(tensor.bytes.begin(), tensor.bytes.end(), [&](std::byte byte) {
      const unsigned bits = std::to_integer<unsigned>(byte) & row.mask;
      return exact ? bits == row.first : bits >= row.first;
    });
  }
  return true;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Open(const std::string& path) {
  SafetensorsFile result;
  ASSIGN_OR_RETURN(result.file_, MappedFile::Open(path));
  const uint64_t file_bytes = result.file_.bytes().size();
  // Header and its length are read, not looked at in the map: the file may be shortened meanwhile.
  ASSIGN_OR_RETURN(const std::string head, result.file_.Read(0, kHeadBytes));
  if (IsLfsPointer(head)) return Corrupt(path, kLfsAdvice);
  if (head.size() < kLengthBytes) {
    return Corrupt(path, "truncated: " + std::to_string(head.size()) +
                             " bytes, shorter than a safetensors header");
  }
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, head.data(), kLengthBytes);
  if (header_bytes > kMaxHeaderBytes) {
    return Corrupt(path, "header length " + std::to_string(header_bytes) +
                             " exceeds the limit of " + std::to_string(kMaxHeaderBytes) + " bytes");
  }
  ASSIGN_OR_RETURN(const std::string header, result.file_.Read(kLengthBytes, header_bytes));
  if (header.size() < header_bytes) {
    return Corrupt(path, "truncated: header length " + std::to_string(header_bytes) +
                             " is past the end of the file's " + std::to_string(file_bytes) +
                             " bytes");
  }
  // The parser takes a NUL for the end of its text.
  if (header.find('\0') != std::string::npos) {
    return Corrupt(path, "header is not valid JSON: it contains a NUL byte");
  }
  HeaderReader reader;
  if (!nlohmann::json::sax_parse(header, &reader)) {
    return Corrupt(path, reader.error);
  }

  const uint64_t data_begin = kLengthBytes + header_bytes;
  const uint64_t data_bytes = file_bytes - data_begin;
  for (const RawEntry& entry : reader.entries) {
    const std::string problem = CheckEntry(entry, data_bytes);
    if (!problem.empty()) return Corrupt(path, Printable(entry.name) + ": " + problem);
  }
  std::sort(reader.entries.begin(), reader.entries.end(), [](const RawEntry& a, const RawEntry& b) {
    return std::pair(a.offsets[0], a.offsets[1]) < std::pair(b.offsets[0], b.offsets[1]);
  });
  uint64_t covered = 0;
  for (RawEntry& entry : reader.entries) {
    const uint64_t begin = entry.offsets[0], end = entry.offsets[1];
    if (begin != covered) {
      return Corrupt(path, Printable(entry.name) + ": data_offsets " +
                               (begin < covered ? "overlap another tensor's" : "leave a gap") +
                               " at " + std::to_string(begin));
    }
    covered = end;
    result.entries_.emplace(std::move(entry.name), Entry{.dtype = std::move(entry.dtype),
                                                         .shape = std::move(entry.shape),
                                                         .begin = data_begin + begin,
                                                         .end = data_begin + end});
  }
  if (covered != data_bytes) {
    return Corrupt(path, std::to_string(data_bytes - covered) +
                             " bytes behind the last tensor belong to none");
  }
  result.metadata_ = std::move(reader.metadata);
  return result;
}

absl::StatusOr<RawTensor> SafetensorsFile::Raw(const std::string& name) const {
  const auto it = entries_.find(name);
  if (it == entries_.end()) {
    return absl::NotFoundError(path() + ": " + Printable(name) + ": no such tensor");
  }
  const Entry& entry = it->second;
  return RawTensor{entry.dtype, entry.shape,
                   file_.bytes().subspan(entry.begin, entry.end - entry.begin)};
}

absl::StatusOr<TensorView> SafetensorsFile::Get(const std::string& name) const {
  ASSIGN_OR_RETURN(RawTensor raw, Raw(name));
  const std::optional<DType> dtype = DTypeOf(raw.type);
  if (!dtype.has_value()) {
    return Corrupt(path(), Printable(name) + ": dtype " + Printable(raw.type) +
                               " is not a type that is supported (F64, F32, F16, BF16, I32)");
  }
  return TensorView{.dtype = *dtype, .shape = std::move(raw.shape), .bytes = raw.bytes};
}

std::vector<std::string> SafetensorsFile::Names() const {
  std::vector<std::string> names;
  names.reserve(entries_.size());
  for (const auto& [name, entry] : entries_) names.push_back(name);
  return names;
}

}  // namespace svdllm
