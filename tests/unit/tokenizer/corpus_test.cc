// Real tokenizers over real text, where both lie beside the repository: the number and SHA-256 of
// the ids (little-endian, 32 bits) against those that tests/reference/tokenizers_reference.py
// recorded with tokenizers 0.22.2, transformers 4.57.6, sentencepiece 0.2.3 and tiktoken 0.14.0.
#include <gtest/gtest.h>

#include <bit>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/files.h"
#include "fixtures.h"
#include "tests/support/source_dir.h"
#include "tests/support/temp_dir.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {
namespace {

using svdllm::testing::TempDir;

const std::string kShared = SourceDir() + "/../shared";

struct Record {
  std::string file, count, digest;
};

std::map<std::string, std::vector<Record>> Records() {
  std::map<std::string, std::vector<Record>> records;
  std::istringstream in(ReadData("corpus_digests.txt"));
  std::string tokenizer;
  for (Record r; in >> tokenizer >> r.file >> r.count >> r.digest;) records[tokenizer].push_back(r);
  return records;
}

// The file's content, decompressed as its name says.
std::string ReadCorpus(const std::string& path) {
  if (!path.ends_with(".gz") && !path.ends_with(".bz2")) return ReadFile(path).value_or("");
  const std::string command = (path.ends_with(".gz") ? "gzip -dc " : "bzip2 -dc ") + path;
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), &pclose);
  std::string content;
  char buffer[1 << 16];
  while (pipe != nullptr) {
    const size_t n = fread(buffer, 1, sizeof(buffer), pipe.get());
    if (n == 0) break;
    content.append(buffer, n);
  }
  return content;
}

std::string Digest(const std::vector<int32_t>& ids) {
  std::string bytes(ids.size() * sizeof(int32_t), '\0');
  std::memcpy(bytes.data(), ids.data(), bytes.size());
  return Sha256(bytes);
}

struct Source {
  std::string tokenizer;
  std::string from, as;  // the file below kShared, and its name in a model directory
  std::string also_from = {}, also_as = {};  // a second one
  std::string config = {};                   // tokenizer_config.json
};

// What facebook's OPT models have.
constexpr char kOptConfig[] = R"({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": true,
    "add_prefix_space": false, "bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>",
    "pad_token": "<pad>"})";

class Corpus : public ::testing::TestWithParam<Source> {};

TEST_P(Corpus, IdsEqualTheReference) {
  static_assert(std::endian::native == std::endian::little);
  const std::string file = kShared + "/" + GetParam().from;
  if (!std::filesystem::exists(file)) GTEST_SKIP() << file << " not present";
  TempDir dir;
  const std::string content = ReadCorpus(file);
  if (content.empty()) GTEST_SKIP() << file << " cannot be decompressed here";
  dir.Write(GetParam().as, content);
  if (!GetParam().also_from.empty()) {
    dir.Write(GetParam().also_as, ReadCorpus(kShared + "/" + GetParam().also_from));
  }
  if (!GetParam().config.empty()) dir.Write("tokenizer_config.json", GetParam().config);
  const auto tokenizer = Tokenizer::Load(dir.path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto records = Records();
  ASSERT_GE(records.at(GetParam().tokenizer).size(), 15u);
  int compared = 0;
  for (const Record& record : records.at(GetParam().tokenizer)) {
    const std::string path = kShared + "/data/" + record.file;
    const std::string text = ReadCorpus(path);
    if (text.empty()) continue;
    const std::vector<int32_t> ids = *tokenizer->Encode(text, true);
    EXPECT_EQ(std::to_string(ids.size()), record.count) << record.file;
    EXPECT_EQ(Digest(ids), record.digest) << record.file;
    ++compared;
  }
  if (compared == 0) GTEST_SKIP() << kShared << "/data not present";
}

INSTANTIATE_TEST_SUITE_P(
    All, Corpus,
    ::testing::Values(
        Source{"llama-1-2", "data/tokenizers/llama-1-2/tokenizer.model", "tokenizer.model"},
        Source{"mistral", "data/tokenizers/mistral/tokenizer.model.v1", "tokenizer.model"},
        Source{"mistral-v3", "data/tokenizers/mistral/mistral_instruct_tokenizer_240323.model.v3",
               "tokenizer.model.v3"},
        Source{"llama-3", "data/tokenizers/llama-3/tokenizer.model", "tokenizer.model"},
        Source{"opt", "data/tokenizers/opt-gpt2/gpt2-vocab.json", "vocab.json",
               "data/tokenizers/opt-gpt2/gpt2-merges.txt", "merges.txt", kOptConfig},
        Source{"stories260K", "models/stories260K/tokenizer.model", "tokenizer.model"},
        Source{"llama-3-hf", "data/tokenizers/llama-3-hf/tokenizer.json.gz", "tokenizer.json"},
        Source{"qwen3", "data/tokenizers/qwen3/tokenizer.json.gz", "tokenizer.json"}),
    [](const auto& info) {
      std::string name = info.param.tokenizer;
      std::erase(name, '-');
      return name;
    });

}  // namespace
}  // namespace svdllm
