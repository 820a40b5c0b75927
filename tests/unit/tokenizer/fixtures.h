// The files in data/, made by tests/reference/tokenizer_cases.py.
#pragma once

#include <fstream>
#include <iterator>
#include <string>

namespace svdllm {

inline std::string ReadData(const std::string& name) {
  std::ifstream in(SVDLLM_SOURCE_DIR "/tests/unit/tokenizer/data/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace svdllm
