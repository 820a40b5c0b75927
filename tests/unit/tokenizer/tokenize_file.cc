// Prints, for each file named, the number of its token ids and their SHA-256 (as little-endian
// 32-bit numbers), to compare with tests/reference/tokenizers_reference.py:
//   tokenize_file [--times] [--records] DIR FILE…
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/files.h"
#include "model/tokenizer.h"

namespace {

bool TakeFlag(std::vector<std::string>* args, std::string_view flag) {
  return std::erase(*args, flag) > 0;
}

std::vector<int32_t> EncodeRecords(const svdllm::Tokenizer& tokenizer, const std::string& text) {
  std::vector<int32_t> ids;
  for (size_t pos = 0; pos <= text.size();) {
    const size_t end = std::min(text.find('\x1e', pos), text.size());
    const auto record = tokenizer.Encode(std::string_view(text).substr(pos, end - pos), true);
    ids.insert(ids.end(), record.begin(), record.end());
    ids.push_back(-1);
    pos = end + 1;
  }
  return ids;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> args(argv + 1, argv + argc);
  const bool times = TakeFlag(&args, "--times");
  const bool records = TakeFlag(&args, "--records");
  if (args.size() < 2) {
    std::fprintf(stderr, "usage: tokenize_file [--times] [--records] DIR FILE...\n");
    return 2;
  }
  const auto tokenizer = svdllm::Tokenizer::Load(args[0]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 1;
  }
  for (size_t i = 1; i < args.size(); ++i) {
    const auto text = svdllm::ReadFile(args[i]);
    if (!text.ok()) {
      std::fprintf(stderr, "%s\n", text.status().ToString().c_str());
      return 1;
    }
    const auto start = std::chrono::steady_clock::now();
    const std::vector<int32_t> ids =
        records ? EncodeRecords(*tokenizer, *text) : tokenizer->Encode(*text, true);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::string bytes(ids.size() * 4, '\0');
    std::memcpy(bytes.data(), ids.data(), bytes.size());
    std::printf("%s %zu %s", svdllm::Sha256(bytes).c_str(), ids.size(), args[i].c_str());
    if (times) std::printf(" %.2f MB/s", static_cast<double>(text->size()) / 1e6 / seconds.count());
    std::printf("\n");
  }
  return 0;
}
