// ggml's block formats against the numbers that the gguf package gives: see
// tests/reference/gguf_blocks.py.
#include "formats/gguf_quants.h"

#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "base/digest.h"
#include "tests/support/source_dir.h"

namespace svdllm {
namespace {

const GgmlType* ByName(const std::string& name) {
  for (uint32_t number = 0; number < 64; ++number) {
    const GgmlType* type = FindGgmlType(number);
    if (type != nullptr && type->name == name) return type;
  }
  return nullptr;
}

std::vector<uint8_t> FromHex(const std::string& hex) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

TEST(GgufQuants, NumbersAreBitEqualToTheReference) {
  std::ifstream in(SourceDir() + "/tests/unit/formats/data/gguf_blocks.txt");
  int formats = 0;
  for (std::string name, hex, digest; in >> name >> hex >> digest; ++formats) {
    const GgmlType* type = ByName(name);
    ASSERT_NE(type, nullptr) << name;
    const std::vector<uint8_t> blocks = FromHex(hex);
    ASSERT_EQ(blocks.size(), 8 * type->block_bytes) << name;
    std::vector<float> numbers(8 * type->block_elements);
    for (size_t i = 0; i < 8; ++i) {
      type->dequantize(blocks.data() + i * type->block_bytes,
                       numbers.data() + i * type->block_elements);
    }
    std::string bytes(numbers.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), numbers.data(), bytes.size());
    EXPECT_EQ(Sha256(bytes), digest) << name;
  }
  EXPECT_EQ(formats, 10);
}

TEST(GgufQuants, OthersAreUnknown) {
  EXPECT_EQ(FindGgmlType(4), nullptr);   // Q4_2, long gone
  EXPECT_EQ(FindGgmlType(16), nullptr);  // IQ2_XXS
  EXPECT_EQ(FindGgmlType(999), nullptr);
  EXPECT_NE(KnownGgmlTypes().find("Q6_K"), std::string::npos);
}

}  // namespace
}  // namespace svdllm
