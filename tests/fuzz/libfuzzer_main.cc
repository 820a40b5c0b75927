// The targets on libFuzzer, which has main() and its flags. The environment says the rest:
//   SVDLLM_FUZZ_TARGET  the target's name
//   SVDLLM_FUZZ_SEEDS   a directory: every target's seeds are written to NAME/ below it, its words
//   to
//                       NAME.dict, and the program ends
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "base/digest.h"
#include "tests/fuzz/target.h"

namespace svdllm::testing {
namespace {

const FuzzTarget* target = nullptr;

void WriteSeeds(const std::string& dir) {
  for (const FuzzTarget& one : FuzzTargets()) {
    const std::string folder = dir + "/" + one.name;
    std::filesystem::create_directories(folder);
    for (const std::string& seed : one.seeds) {
      WriteOrDie(folder + "/" + Sha256(seed).substr(0, 16), seed);
    }
    std::string words;
    for (const std::string& word : one.words) {
      words += '"';
      for (const unsigned char c : word) {
        char code[8];
        std::snprintf(code, sizeof(code), "\\x%02x", c);
        words += code;
      }
      words += "\"\n";
    }
    WriteOrDie(folder + ".dict", words);
    std::cout << one.name << ' ' << one.max_bytes << '\n';
  }
}

}  // namespace
}  // namespace svdllm::testing

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  using namespace svdllm::testing;
  if (const char* dir = std::getenv("SVDLLM_FUZZ_SEEDS")) {
    WriteSeeds(dir);
    std::exit(0);
  }
  const char* name = std::getenv("SVDLLM_FUZZ_TARGET");
  for (const FuzzTarget& one : FuzzTargets()) {
    if (name != nullptr && one.name == name) target = &one;
  }
  if (target == nullptr) {
    std::cerr << "SVDLLM_FUZZ_TARGET names none of the targets\n";
    std::exit(2);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace svdllm::testing;
  try {
    RunFuzzTarget(*target, {reinterpret_cast<const char*>(data), size});
  } catch (const FuzzFailure& failure) {
    std::cerr << target->name << ": " << failure.what << std::endl;
    std::abort();  // libFuzzer keeps the input
  }
  return 0;
}
