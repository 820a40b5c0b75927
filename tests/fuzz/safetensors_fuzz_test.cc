#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "formats/safetensors.h"
#include "tests/fuzz/mutator.h"
#include "tests/support/safetensors_bytes.h"
#include "tests/support/temp_dir.h"

namespace svdllm {
namespace {

using testing::Mutator;
using testing::SafetensorsBytes;

// Reads every byte that an accepted file hands out.
void UseAll(const SafetensorsFile& file) {
  size_t sum = 0;
  for (const std::string& name : file.Names()) {
    const auto view = file.Get(name);
    if (!view.ok()) {
      EXPECT_EQ(ErrorReason(view.status()), kModelCorrupt);
      continue;
    }
    ASSERT_EQ(view->bytes.size(), static_cast<size_t>(view->elements()) * SizeOf(view->dtype));
    for (const std::byte byte : view->bytes) sum += static_cast<size_t>(byte);
  }
  EXPECT_LT(sum, size_t{1} << 30);
}

TEST(SafetensorsFuzz, AnyBytesAreReadOrRefused) {
  const std::vector<std::string> seeds = {
      SafetensorsBytes({{"a", DType::kF32, {2, 2}, std::string(16, 'a')},
                        {"b", DType::kBF16, {3}, std::string(6, 'b')}}),
      SafetensorsBytes({{"w", DType::kF16, {0, 4}, ""}, {"s", DType::kF64, {}, "12345678"}}),
      SafetensorsBytes("{}", ""),
      SafetensorsBytes(R"({"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", "12345678"),
  };
  const std::vector<std::string> words = {"{",
                                          "}",
                                          "[",
                                          "]",
                                          "\"",
                                          ",",
                                          ":",
                                          "-1",
                                          "0",
                                          "null",
                                          "true",
                                          "1e9",
                                          "4294967296",
                                          "9223372036854775807",
                                          "18446744073709551615",
                                          "\"dtype\"",
                                          "\"shape\"",
                                          "\"data_offsets\"",
                                          "\"F32\"",
                                          "\"BF16\"",
                                          "\"__metadata__\"",
                                          "[0,0]",
                                          std::string(8, '\xff'),
                                          std::string(7, '\0'),
                                          "[[[[[[[[",
                                          "{\"a\":{\"a\":"};
  Mutator mutator(seeds, words);
  testing::TempDir dir;
  int64_t accepted = 0;
  const int64_t runs = testing::ForFuzzSeconds([&] {
    std::string bytes = mutator.Next();
    if (bytes.size() >= 8) {
      // A length that fits lets the mutated header through to the parser.
      const size_t end = bytes.rfind('}');
      uint64_t header_bytes = end == std::string::npos || end < 8 ? 0 : end - 7;
      if (mutator.Below(8) == 0) header_bytes = mutator.Below(bytes.size() - 7);
      if (mutator.Below(8) != 0) std::memcpy(bytes.data(), &header_bytes, 8);
    }
    // A file that is truncated and written again is flushed to disk at once; a new one is not.
    std::filesystem::remove(dir.File("fuzz"));
    const auto file = SafetensorsFile::Open(dir.Write("fuzz", bytes));
    if (file.ok()) {
      ++accepted;
      UseAll(*file);
    } else {
      EXPECT_EQ(ErrorReason(file.status()), kModelCorrupt) << file.status();
    }
  });
  EXPECT_GT(runs, 100);
  EXPECT_GT(accepted, 0);  // else the mutations are too wild to reach anything
  RecordProperty("runs", static_cast<int>(runs));
  RecordProperty("accepted", static_cast<int>(accepted));
}

}  // namespace
}  // namespace svdllm
