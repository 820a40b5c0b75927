// GGUF files written by hand, without the code under test.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace svdllm::testing {

class GgufBytes {
 public:
  GgufBytes& Uint32(std::string_view key, uint32_t value);
  GgufBytes& Float32(std::string_view key, float value);
  GgufBytes& Bool(std::string_view key, bool value);
  GgufBytes& String(std::string_view key, std::string_view value);
  GgufBytes& Strings(std::string_view key, const std::vector<std::string>& values);
  GgufBytes& Int32s(std::string_view key, const std::vector<int32_t>& values);
  GgufBytes& Float32s(std::string_view key, const std::vector<float>& values);
  // Any value: its type's number and its bytes.
  GgufBytes& Value(std::string_view key, uint32_t type, std::string_view bytes);
  // shape: slowest dimension first. Data is placed at the next multiple of 32.
  GgufBytes& Tensor(std::string_view name, uint32_t type, const std::vector<int64_t>& shape,
                    std::string_view bytes);

  std::string Make(uint32_t version = 3) const;

 private:
  uint64_t values_ = 0, tensors_ = 0;
  std::string metadata_, infos_, data_;
};

}  // namespace svdllm::testing
