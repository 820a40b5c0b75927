// A tool to compare our tokenizers with the reference's, on any text:
//   tokenize_file [--times] DIR FILE…       prints, for each file, the SHA-256 of its token ids (as
//                                           little-endian 32-bit numbers), and how many they are
//   tokenize_file --encode DIR IN OUT       for each text in IN, its ids
//   tokenize_file --decode DIR IN OUT       for each list of ids in IN, its text with special
//                                           tokens and its text without
// IN and OUT are records: the number of bytes or of ids, in 32 bits, and they. The programs on the
// other side are tests/reference/tokenizers_reference.py and tokenizer_compare.py.
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "base/files.h"
#include "tokenizer/tokenizer.h"

namespace {

using svdllm::Tokenizer;

bool TakeFlag(std::vector<std::string>* args, std::string_view flag) {
  return std::erase(*args, flag) > 0;
}

void AppendNumber(size_t number, std::string* out) {
  const auto value = static_cast<uint32_t>(number);
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// The next record, of elements of so many bytes.
std::string_view TakeRecord(std::string_view* in, size_t element_bytes) {
  uint32_t count = 0;
  std::memcpy(&count, in->data(), sizeof(count));
  const std::string_view record = in->substr(sizeof(count), count * element_bytes);
  in->remove_prefix(sizeof(count) + record.size());
  return record;
}

std::string AsBytes(const std::vector<int32_t>& ids) {
  std::string bytes(ids.size() * sizeof(int32_t), '\0');
  std::memcpy(bytes.data(), ids.data(), bytes.size());
  return bytes;
}

std::string Encode(const Tokenizer& tokenizer, std::string_view in) {
  std::string out;
  while (!in.empty()) {
    const std::vector<int32_t> ids = *tokenizer.Encode(TakeRecord(&in, 1), true);
    AppendNumber(ids.size(), &out);
    out += AsBytes(ids);
  }
  return out;
}

std::string Decode(const Tokenizer& tokenizer, std::string_view in) {
  std::string out;
  while (!in.empty()) {
    const std::string_view record = TakeRecord(&in, sizeof(int32_t));
    std::vector<int32_t> ids(record.size() / sizeof(int32_t));
    std::memcpy(ids.data(), record.data(), record.size());
    for (const bool skip : {false, true}) {
      const std::string text = tokenizer.Decode(ids, skip);
      AppendNumber(text.size(), &out);
      out += text;
    }
  }
  return out;
}

int PrintDigest(const Tokenizer& tokenizer, const std::string& path, bool times) {
  const auto text = svdllm::ReadFile(path);
  if (!text.ok()) {
    std::fprintf(stderr, "%s\n", text.status().ToString().c_str());
    return 1;
  }
  const std::clock_t start = std::clock();  // this thread's time: others may use the machine too
  const std::vector<int32_t> ids = *tokenizer.Encode(*text, true);
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  std::printf("%s %zu %s", svdllm::Sha256(AsBytes(ids)).c_str(), ids.size(), path.c_str());
  if (times) std::printf(" %.2f MB/s", static_cast<double>(text->size()) / 1e6 / seconds);
  std::printf("\n");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> args(argv + 1, argv + argc);
  const bool times = TakeFlag(&args, "--times");
  const bool encode = TakeFlag(&args, "--encode");
  const bool decode = TakeFlag(&args, "--decode");
  if (args.size() < 2 || ((encode || decode) && args.size() != 3)) {
    std::fprintf(stderr,
                 "usage: tokenize_file [--times] DIR FILE...\n"
                 "       tokenize_file --encode|--decode DIR IN OUT\n");
    return 2;
  }
  const auto tokenizer = Tokenizer::Load(args[0]);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().ToString().c_str());
    return 1;
  }
  if (encode || decode) {
    const auto in = svdllm::ReadFile(args[1]);
    if (!in.ok()) {
      std::fprintf(stderr, "%s\n", in.status().ToString().c_str());
      return 1;
    }
    const std::string out = encode ? Encode(*tokenizer, *in) : Decode(*tokenizer, *in);
    return std::ofstream(args[2], std::ios::binary).write(out.data(), std::ssize(out)) ? 0 : 1;
  }
  for (size_t i = 1; i < args.size(); ++i) {
    if (const int rc = PrintDigest(*tokenizer, args[i], times); rc != 0) return rc;
  }
  return 0;
}
