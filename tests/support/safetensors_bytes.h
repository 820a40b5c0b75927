// Safetensors files written by hand, sound or not.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "linalg/dtype.h"

namespace svdllm::testing {

// Length, header, data: nothing is checked.
std::string SafetensorsBytes(std::string_view header, std::string_view data);

struct TestTensor {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  std::string bytes;
};
// A sound file, written without the code under test.
std::string SafetensorsBytes(const std::vector<TestTensor>& tensors);

}  // namespace svdllm::testing
