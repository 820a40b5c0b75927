#include <cstring>

#include "formats/safetensors.h"
#include "tests/fuzz/targets.h"
#include "tests/support/safetensors_bytes.h"

namespace svdllm::testing {
namespace {

// Reads every byte that an accepted file hands out.
void UseAll(const SafetensorsFile& file) {
  size_t sum = 0;
  for (const std::string& name : file.Names()) {
    const auto view = file.Get(name);
    if (!view.ok()) {
      CheckRefusal(view.status(), {kModelCorrupt});
      continue;
    }
    FUZZ_CHECK(view->bytes.size() == static_cast<size_t>(view->elements()) * SizeOf(view->dtype),
               name);
    for (const std::byte byte : view->bytes) sum += static_cast<size_t>(byte);
  }
  FUZZ_CHECK(sum < size_t{1} << 30, std::to_string(sum));
}

void Open(const std::string& bytes) {
  static FuzzDirectory directory;
  const auto file = SafetensorsFile::Open(directory.Put("model.safetensors", bytes));
  if (file.ok()) {
    UseAll(*file);
  } else {
    CheckRefusal(file.status(), {kModelCorrupt});
  }
}

void Run(std::string_view input) {
  std::string bytes(input);
  Open(bytes);
  // A length that fits lets the changed header through to the parser.
  const size_t end = bytes.rfind('}');
  if (end == std::string::npos || end < 8) return;
  const uint64_t header_bytes = end - 7;
  if (std::memcmp(bytes.data(), &header_bytes, 8) == 0) return;
  std::memcpy(bytes.data(), &header_bytes, 8);
  Open(bytes);
}

}  // namespace

FuzzTarget SafetensorsTarget() {
  return {
      "safetensors",
      Run,
      {SafetensorsBytes({{"a", DType::kF32, {2, 2}, std::string(16, 'a')},
                         {"b", DType::kBF16, {3}, std::string(6, 'b')}}),
       SafetensorsBytes({{"w", DType::kF16, {0, 4}, ""}, {"s", DType::kF64, {}, "12345678"}}),
       SafetensorsBytes("{}", ""),
       SafetensorsBytes(R"({"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}})", "12345678")},
      {"{",
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
       "{\"a\":{\"a\":"}};
}

}  // namespace svdllm::testing
