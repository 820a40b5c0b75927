// The files in data/, made by tests/reference/tokenizer_cases.py.
#pragma once

#include <fstream>
#include <iterator>
#include <string>

#include "tests/support/source_dir.h"

namespace svdllm {

inline std::string ReadData(const std::string& name) {
  std::ifstream in(SourceDir() + "/tests/unit/tokenizer/data/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace svdllm
