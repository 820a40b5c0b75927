#include "tests/support/gguf_bytes.h"

#include <cstring>

namespace svdllm::testing {
namespace {

template <typename T>
std::string Bytes(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

std::string Text(std::string_view text) { return Bytes(uint64_t{text.size()}).append(text); }

template <typename T>
std::string Array(uint32_t type, const std::vector<T>& values) {
  std::string bytes = Bytes(type) + Bytes(uint64_t{values.size()});
  for (const T& value : values) bytes += Bytes(value);
  return bytes;
}

}  // namespace

GgufBytes& GgufBytes::Value(std::string_view key, uint32_t type, std::string_view bytes) {
  metadata_ += Text(key) + Bytes(type);
  metadata_ += bytes;
  ++values_;
  return *this;
}

GgufBytes& GgufBytes::Uint32(std::string_view key, uint32_t value) {
  return Value(key, 4, Bytes(value));
}
GgufBytes& GgufBytes::Float32(std::string_view key, float value) {
  return Value(key, 6, Bytes(value));
}
GgufBytes& GgufBytes::Bool(std::string_view key, bool value) {
  return Value(key, 7, Bytes(static_cast<uint8_t>(value)));
}
GgufBytes& GgufBytes::String(std::string_view key, std::string_view value) {
  return Value(key, 8, Text(value));
}
GgufBytes& GgufBytes::Strings(std::string_view key, const std::vector<std::string>& values) {
  std::string bytes = Bytes(uint32_t{8}) + Bytes(uint64_t{values.size()});
  for (const std::string& value : values) bytes += Text(value);
  return Value(key, 9, bytes);
}
GgufBytes& GgufBytes::Int32s(std::string_view key, const std::vector<int32_t>& values) {
  return Value(key, 9, Array(5, values));
}
GgufBytes& GgufBytes::Float32s(std::string_view key, const std::vector<float>& values) {
  return Value(key, 9, Array(6, values));
}

GgufBytes& GgufBytes::Tensor(std::string_view name, uint32_t type,
                             const std::vector<int64_t>& shape, std::string_view bytes) {
  infos_ += Text(name) + Bytes(static_cast<uint32_t>(shape.size()));
  for (auto size = shape.rbegin(); size != shape.rend(); ++size) {
    infos_ += Bytes(static_cast<uint64_t>(*size));
  }
  infos_ += Bytes(type) + Bytes(uint64_t{data_.size()});
  data_ += bytes;
  data_.resize((data_.size() + 31) / 32 * 32);
  ++tensors_;
  return *this;
}

std::string GgufBytes::Make(uint32_t version) const {
  std::string head =
      "GGUF" + Bytes(version) + Bytes(tensors_) + Bytes(values_) + metadata_ + infos_;
  head.resize((head.size() + 31) / 32 * 32);
  return head + data_;
}

}  // namespace svdllm::testing
