// Writes a random checkpoint of a published shape, bf16, at the disk's speed: what a benchmark
// needs of a model is its shape.
//
//   random_checkpoint SHAPE DIR [layers]     layers: fewer than the shape's
//
// Refuses to begin where the disk has no room for it and for an artifact of it.
//
// Weights have random signs and magnitudes of [2^-7, 2^-6): full rank, and of the size that trained
// ones have. The tokenizer is bytes.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "base/files.h"
#include "base/status.h"
#include "checkpoint/architecture.h"
#include "checkpoint/parse_config.h"
#include "formats/safetensors.h"
#include "tests/support/tiny_checkpoint.h"

namespace svdllm {
namespace {

struct Shape {
  const char* name;
  const char* family;
  int64_t vocab, hidden, intermediate, layers, heads, kv_heads, positions;
};

constexpr Shape kShapes[] = {
    {"tiny", "llama", 260, 64, 160, 2, 4, 4, 2048},
    {"tinyllama-1.1b", "llama", 32000, 2048, 5632, 22, 32, 4, 2048},
    {"llama-7b", "llama", 32000, 4096, 11008, 32, 32, 32, 4096},
    {"llama-13b", "llama", 32000, 5120, 13824, 40, 40, 40, 4096},
    {"llama-70b", "llama", 32000, 8192, 28672, 80, 64, 8, 4096},
    {"llama-3-8b", "llama", 128256, 4096, 14336, 32, 32, 8, 8192},
    {"opt-6.7b", "opt", 50272, 4096, 16384, 32, 32, 32, 2048},
    {"mistral-7b", "mistral", 32000, 4096, 14336, 32, 32, 8, 32768},
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

int64_t BytesOf(const TensorSpec& tensor) {
  int64_t bytes = 2;
  for (const int64_t extent : tensor.shape) bytes *= extent;
  return bytes;
}

absl::Status WriteShard(const std::string& path, const std::vector<TensorSpec>& tensors,
                        uint64_t seed) {
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, tensors));
  // Pieces that stay in the processor's cache.
  std::vector<uint64_t> words(size_t{1} << 15);
  uint64_t state = (seed + 1) * 0x9e3779b97f4a7c15ull;
  for (const TensorSpec& tensor : tensors) {
    const int64_t bytes = BytesOf(tensor);
    const auto piece = static_cast<int64_t>(words.size() * sizeof(words[0]));
    for (int64_t at = 0; at < bytes; at += piece) {
      Fill(words, state);
      const auto count = static_cast<size_t>(std::min(piece, bytes - at));
      RETURN_IF_ERROR(
          writer.WritePart(tensor.name, at, std::as_bytes(std::span(words)).first(count)));
    }
  }
  return writer.Finish();
}

nlohmann::json ConfigOf(const Shape& shape) {
  nlohmann::json config = {{"vocab_size", shape.vocab},
                           {"hidden_size", shape.hidden},
                           {"num_hidden_layers", shape.layers},
                           {"num_attention_heads", shape.heads},
                           {"max_position_embeddings", shape.positions},
                           {"torch_dtype", "bfloat16"}};
  if (shape.family == std::string("opt")) {
    config["ffn_dim"] = shape.intermediate;
    config["word_embed_proj_dim"] = shape.hidden;
    config["tie_word_embeddings"] = true;
    config["activation_function"] = "relu";
    return config;
  }
  config["intermediate_size"] = shape.intermediate;
  config["num_key_value_heads"] = shape.kv_heads;
  config["head_dim"] = shape.hidden / shape.heads;
  return config;
}

// A file for the embeddings, for every layer, and for what comes behind.
std::vector<std::vector<TensorSpec>> ShardsOf(const ModelConfig& config, const Architecture& arch) {
  std::vector<std::vector<TensorSpec>> shards;
  const auto matrix = [&](const std::string& module, int64_t rows, int64_t cols) {
    shards.back().push_back({module + ".weight", DType::kBF16, {rows, cols}});
  };
  const auto vector = [&](const std::string& name, int64_t size) {
    shards.back().push_back({name, DType::kBF16, {size}});
  };
  const auto norm = [&](const std::string& module) {
    vector(module + ".weight", config.hidden_size);
    if (arch.norm == NormKind::kLayer) vector(module + ".bias", config.hidden_size);
  };
  shards.emplace_back();
  matrix(std::string(arch.embedding), config.vocab_size, config.hidden_size);
  if (arch.position == PositionKind::kLearned) {
    matrix(std::string(arch.positions), config.max_position_embeddings + kLearnedOffset,
           config.hidden_size);
  }
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    shards.emplace_back();
    norm(LayerPath(arch, layer, arch.attn_norm));
    norm(LayerPath(arch, layer, arch.mlp_norm));
    for (const LinearRow& row : arch.linears) {
      const LinearShape shape = ShapeOf(config, row.id);
      matrix(ModulePath(arch, layer, row.id), shape.rows, shape.cols);
      if (HasBias(config, row.id)) vector(ModulePath(arch, layer, row.id) + ".bias", shape.rows);
    }
  }
  shards.emplace_back();
  norm(std::string(arch.final_norm));
  if (!config.tie_word_embeddings) {
    matrix(std::string(arch.head), config.vocab_size, config.hidden_size);
  }
  return shards;
}

absl::Status Generate(const Shape& shape, const std::string& dir) {
  // Its tokenizer and the parts of its configuration that have no size.
  testing::TinyCheckpointOptions tiny;
  tiny.family = shape.family;
  tiny.config_json = ConfigOf(shape).dump();
  testing::WriteTinyCheckpoint(dir, tiny);
  std::error_code error;
  std::filesystem::remove(dir + "/model.safetensors", error);
  ASSIGN_OR_RETURN(const std::string json, ReadFile(dir + "/config.json"));
  ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(json));
  const std::vector<std::vector<TensorSpec>> shards =
      ShardsOf(config, *FindArchitecture(config.family));

  nlohmann::json index;
  std::vector<std::string> files;
  int64_t bytes = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    files.push_back(fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size()));
    for (const TensorSpec& tensor : shards[i]) {
      index["weight_map"][tensor.name] = files.back();
      bytes += BytesOf(tensor);
    }
  }
  index["metadata"]["total_size"] = bytes;
  const std::filesystem::space_info space = std::filesystem::space(dir, error);
  if (!error && static_cast<double>(space.available) < 2.0 * static_cast<double>(bytes)) {
    return absl::ResourceExhaustedError(fmt::format(
        "{}: the checkpoint and an artifact of it need up to {:.1f} GB, {:.1f} are free", dir,
        2e-9 * static_cast<double>(bytes), 1e-9 * static_cast<double>(space.available)));
  }
  std::vector<absl::Status> results(shards.size());
  std::vector<std::thread> threads;
  std::atomic<size_t> next{0};
  for (unsigned t = 0; t < std::clamp(std::thread::hardware_concurrency(), 1u, 16u); ++t) {
    threads.emplace_back([&] {
      for (size_t i = next++; i < shards.size(); i = next++) {
        results[i] = WriteShard(dir + "/" + files[i], shards[i], i);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : results) RETURN_IF_ERROR(status);
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
