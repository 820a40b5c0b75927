// Writes a random checkpoint of a published shape, bf16, at the disk's speed: what a benchmark
// needs of a model is its shape.
//
//   random_checkpoint SHAPE DIR [layers]     layers: fewer than the shape's
//
// Weights have random signs and magnitudes of [2^-7, 2^-6): full rank, and of the size that trained
// ones have. The tokenizer is bytes.
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/status.h"
#include "model/safetensors.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

struct Shape {
  const char* name;
  int64_t vocab, hidden, intermediate, layers, heads, kv_heads, positions;
};

constexpr Shape kShapes[] = {
    {"tinyllama-1.1b", 32000, 2048, 5632, 22, 32, 4, 2048},
    {"llama-7b", 32000, 4096, 11008, 32, 32, 32, 4096},
    {"llama-13b", 32000, 5120, 13824, 40, 40, 40, 4096},
    {"llama-70b", 32000, 8192, 28672, 80, 64, 8, 4096},
    {"llama-3-8b", 128256, 4096, 14336, 32, 32, 8, 8192},
};

// Four weights a step of the generator (xorshift64*).
void Fill(std::vector<uint64_t>& words, uint64_t& state) {
  for (uint64_t& word : words) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    const uint64_t random = state * 0x2545f4914f6cdd1dull;
    word = (random & 0x807f807f807f807full) | 0x3c003c003c003c00ull;  // exponent of 2^-7
  }
}

absl::Status WriteShard(const std::string& path, const std::vector<TensorSpec>& tensors,
                        uint64_t& state) {
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, tensors));
  std::vector<uint64_t> words;
  for (const TensorSpec& tensor : tensors) {
    int64_t elements = 1;
    for (const int64_t extent : tensor.shape) elements *= extent;
    words.resize(static_cast<size_t>(elements + 3) / 4);
    Fill(words, state);
    RETURN_IF_ERROR(writer.Write(
        tensor.name, std::as_bytes(std::span(words)).first(static_cast<size_t>(elements) * 2)));
  }
  return writer.Finish();
}

absl::Status Generate(const Shape& shape, const std::string& dir) {
  const int64_t head_dim = shape.hidden / shape.heads, kv = shape.kv_heads * head_dim;
  // Its tokenizer and the parts of its configuration that have no size.
  const nlohmann::json config = {{"vocab_size", shape.vocab},
                                 {"hidden_size", shape.hidden},
                                 {"intermediate_size", shape.intermediate},
                                 {"num_hidden_layers", shape.layers},
                                 {"num_attention_heads", shape.heads},
                                 {"num_key_value_heads", shape.kv_heads},
                                 {"head_dim", head_dim},
                                 {"max_position_embeddings", shape.positions},
                                 {"torch_dtype", "bfloat16"}};
  testing::TinyCheckpointOptions tiny;
  tiny.config_json = config.dump();
  testing::WriteTinyCheckpoint(dir, tiny);
  std::error_code error;
  std::filesystem::remove(dir + "/model.safetensors", error);

  using Tensors = std::vector<TensorSpec>;
  const auto weight = [](const std::string& name, std::vector<int64_t> extents) {
    return TensorSpec{name, DType::kBF16, std::move(extents)};
  };
  std::vector<Tensors> shards;
  shards.push_back({weight("model.embed_tokens.weight", {shape.vocab, shape.hidden})});
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    const std::string at = "model.layers." + std::to_string(layer) + ".";
    shards.push_back({weight(at + "input_layernorm.weight", {shape.hidden}),
                      weight(at + "self_attn.q_proj.weight", {shape.hidden, shape.hidden}),
                      weight(at + "self_attn.k_proj.weight", {kv, shape.hidden}),
                      weight(at + "self_attn.v_proj.weight", {kv, shape.hidden}),
                      weight(at + "self_attn.o_proj.weight", {shape.hidden, shape.hidden}),
                      weight(at + "post_attention_layernorm.weight", {shape.hidden}),
                      weight(at + "mlp.gate_proj.weight", {shape.intermediate, shape.hidden}),
                      weight(at + "mlp.up_proj.weight", {shape.intermediate, shape.hidden}),
                      weight(at + "mlp.down_proj.weight", {shape.hidden, shape.intermediate})});
  }
  shards.push_back({weight("model.norm.weight", {shape.hidden}),
                    weight("lm_head.weight", {shape.vocab, shape.hidden})});
  nlohmann::json index;
  uint64_t state = 0x9e3779b97f4a7c15ull;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string file = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    RETURN_IF_ERROR(WriteShard(dir + "/" + file, shards[i], state));
    for (const TensorSpec& tensor : shards[i]) index["weight_map"][tensor.name] = file;
  }
  return WriteFileAtomic(dir + "/model.safetensors.index.json", index.dump(1));
}

int Main(int argc, char** argv) {
  for (Shape shape : kShapes) {
    if (argc < 3 || argv[1] != std::string(shape.name)) continue;
    if (argc > 3) shape.layers = std::atoll(argv[3]);
    const auto start = std::chrono::steady_clock::now();
    const absl::Status status = Generate(shape, argv[2]);
    if (!status.ok()) {
      fmt::print(stderr, "random_checkpoint: {}\n", std::string(status.message()));
      return 1;
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    fmt::print("{} with {} layers in {}: {:.1f} s\n", shape.name, shape.layers, argv[2],
               seconds.count());
    return 0;
  }
  fmt::print(stderr, "usage: random_checkpoint SHAPE DIR [layers]; shapes:");
  for (const Shape& shape : kShapes) fmt::print(stderr, " {}", shape.name);
  fmt::print(stderr, "\n");
  return 2;
}

}  // namespace
}  // namespace svdllm

int main(int argc, char** argv) { return svdllm::Main(argc, argv); }
