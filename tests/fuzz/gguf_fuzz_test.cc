#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "checkpoint/gguf_model.h"
#include "tests/fuzz/mutator.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/temp_dir.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {
namespace {

using testing::GgufBytes;
using testing::Mutator;

// Reads every byte that an accepted file hands out.
void UseAll(const GgufFile& file) {
  size_t sum = 0;
  for (const auto& [name, tensor] : file.tensors()) {
    for (const std::byte byte : tensor.bytes) sum += static_cast<size_t>(byte);
  }
  EXPECT_LT(sum, size_t{1} << 30);
}

void UseAll(const GgufModel& model) {
  for (const auto& [name, spec] : model.tensors()) {
    const TensorView view = model.Tensor(name);
    ASSERT_EQ(static_cast<int64_t>(view.bytes.size()), spec.bytes()) << name;
    ASSERT_EQ(view.shape, spec.shape) << name;
  }
  (void)model.SideFiles();
}

std::string Model() {
  GgufBytes bytes;
  bytes.String("general.architecture", "llama").Uint32("general.alignment", 32);
  for (const char* key :
       {"block_count", "context_length", "feed_forward_length", "attention.head_count"}) {
    bytes.Uint32(std::string("llama.") + key, 2);
  }
  bytes.Uint32("llama.embedding_length", 8);
  bytes.Float32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  bytes.String("tokenizer.ggml.model", "llama");
  bytes.Strings("tokenizer.ggml.tokens", {"<unk>", "<0x0A>", "a", "b", "ab"});
  bytes.Int32s("tokenizer.ggml.token_type", {2, 6, 1, 1, 1});
  bytes.Float32s("tokenizer.ggml.scores", {0, 0, -2, -3, -1});
  bytes.Tensor("token_embd.weight", 2, {2, 32}, std::string(36, '\x35'));
  bytes.Tensor("blk.0.attn_q.weight", 0, {4, 2}, std::string(32, 'q'));
  bytes.Tensor("blk.1.ffn_up.weight", 14, {1, 256}, std::string(210, 'k'));
  return bytes.Make();
}

TEST(GgufFuzz, AnyBytesAreReadOrRefused) {
  GgufBytes small;
  small.Bool("b", true).Value("a", 9, std::string("\4\0\0\0\2\0\0\0\0\0\0\0abcdefgh", 20));
  const std::vector<std::string> seeds = {Model(), small.Make(2),
                                          GgufBytes().Tensor("t", 1, {3}, "abcdef").Make()};
  std::vector<std::string> words = {"GGUF",
                                    "llama",
                                    "gpt2",
                                    "general.alignment",
                                    "tokenizer.ggml.merges",
                                    "rope_freqs.weight",
                                    "blk.",
                                    ".weight",
                                    std::string(8, '\xff'),
                                    std::string(8, '\0')};
  for (uint32_t number = 0; number < 32; ++number) {
    words.push_back(std::string(1, static_cast<char>(number)) + std::string(3, '\0'));
    words.push_back(std::string(1, static_cast<char>(number)) + std::string(7, '\0'));
  }
  Mutator mutator(seeds, words);
  testing::TempDir dir;
  int64_t accepted = 0, models = 0;
  const int64_t runs = testing::ForFuzzSeconds([&] {
    std::filesystem::remove(dir.File("fuzz.gguf"));
    const std::string path = dir.Write("fuzz.gguf", mutator.Next());
    const auto file = GgufFile::Open(path);
    if (!file.ok()) {
      EXPECT_EQ(ErrorReason(file.status()), kModelCorrupt) << file.status();
      return;
    }
    ++accepted;
    UseAll(*file);
    const auto model = GgufModel::Open(path);
    if (model.ok()) {
      ++models;
      UseAll(*model);
    } else {
      EXPECT_FALSE(ErrorReason(model.status()).empty()) << model.status();
    }
    const auto tokenizer = Tokenizer::Load(path);
    if (tokenizer.ok()) {
      const auto ids = tokenizer->Encode("ab a\n", true);
      if (ids.ok()) (void)tokenizer->Decode(*ids, false);
    } else {
      EXPECT_FALSE(ErrorReason(tokenizer.status()).empty()) << tokenizer.status();
    }
  });
  EXPECT_GT(runs, 100);
  EXPECT_GT(accepted, 0);  // else the mutations are too wild to reach anything
  EXPECT_GT(models, 0);
  RecordProperty("runs", static_cast<int>(runs));
  RecordProperty("accepted", static_cast<int>(accepted));
}

}  // namespace
}  // namespace svdllm
