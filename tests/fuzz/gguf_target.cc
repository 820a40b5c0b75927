#include "checkpoint/gguf_model.h"
#include "tests/fuzz/targets.h"
#include "tests/support/gguf_bytes.h"
#include "tokenizer/tokenizer.h"

namespace svdllm::testing {
namespace {

// Reads every byte that an accepted file hands out.
void UseAll(const GgufFile& file) {
  size_t sum = 0;
  for (const auto& [name, tensor] : file.tensors()) {
    for (const std::byte byte : tensor.bytes) sum += static_cast<size_t>(byte);
  }
  FUZZ_CHECK(sum < size_t{1} << 30, std::to_string(sum));
}

void UseAll(const GgufModel& model) {
  for (const auto& [name, spec] : model.tensors()) {
    const TensorView view = model.Tensor(name);
    FUZZ_CHECK(static_cast<int64_t>(view.bytes.size()) == spec.bytes(), name);
    FUZZ_CHECK(view.shape == spec.shape, name);
  }
  const auto files = model.SideFiles();
  if (!files.ok()) CheckRefusal(files.status());
}

void Run(std::string_view bytes) {
  static FuzzDirectory directory;
  const std::string path = directory.Put("model.gguf", bytes);
  const auto file = GgufFile::Open(path);
  if (!file.ok()) return CheckRefusal(file.status(), {kModelCorrupt});
  UseAll(*file);
  const auto model = GgufModel::Open(path);
  if (model.ok()) {
    UseAll(*model);
  } else {
    CheckRefusal(model.status());
  }
  const auto tokenizer = Tokenizer::Load(path);
  if (tokenizer.ok()) {
    const auto ids = tokenizer->Encode("ab a\n", true);
    if (ids.ok()) (void)tokenizer->Decode(*ids, false);
  } else {
    CheckRefusal(tokenizer.status());
  }
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

}  // namespace

FuzzTarget GgufTarget() {
  GgufBytes small;
  small.Bool("b", true).Value("a", 9, std::string("\4\0\0\0\2\0\0\0\0\0\0\0abcdefgh", 20));
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
  }
  return {"gguf",
          Run,
          {Model(), small.Make(2), GgufBytes().Tensor("t", 1, {3}, "abcdef").Make()},
          words};
}

}  // namespace svdllm::testing
