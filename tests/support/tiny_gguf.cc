#include "tests/support/tiny_gguf.h"

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/files.h"
#include "checkpoint/checkpoint.h"

namespace svdllm::testing {
namespace {

using nlohmann::json;

constexpr uint32_t kF32 = 0, kF16 = 1, kBF16 = 30;  // ggml's types

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The rows of each head's first and second half in turns, as GGUF has those of q and k.
std::string Interleave(const std::string& bytes, int64_t rows, int64_t heads) {
  const size_t row = bytes.size() / static_cast<size_t>(rows);
  const int64_t half = rows / heads / 2;
  std::string out;
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t i = 0; i < half; ++i) {
      for (int64_t j = 0; j < 2; ++j) {
        const int64_t from = head * 2 * half + j * half + i;
        out += bytes.substr(static_cast<size_t>(from) * row, row);
      }
    }
  }
  return out;
}

std::string GgufName(std::string name) {
  const std::pair<std::string, std::string> kNames[] = {
      {"model.embed_tokens", "token_embd"},    {"lm_head", "output"},
      {"model.norm", "output_norm"},           {"model.layers", "blk"},
      {"self_attn.q_proj", "attn_q"},          {"self_attn.k_proj", "attn_k"},
      {"self_attn.v_proj", "attn_v"},          {"self_attn.o_proj", "attn_output"},
      {"mlp.gate_proj", "ffn_gate"},           {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},           {"input_layernorm", "attn_norm"},
      {"post_attention_layernorm", "ffn_norm"}};
  for (const auto& [from, to] : kNames) {
    const size_t at = name.find(from);
    if (at != name.npos) name.replace(at, from.size(), to);
  }
  return name;
}

// The tiny tokenizer: bytes, and two control tokens.
void AddTokenizer(const std::string& dir, GgufBytes* out) {
  const json vocab = json::parse(*ReadFile(dir + "/tokenizer.json")).at("model").at("vocab");
  std::vector<std::string> tokens(258);
  for (const auto& [token, id] : vocab.items()) tokens.at(id.get<size_t>()) = token;
  tokens[256] = "<s>";
  tokens[257] = "</s>";
  std::vector<int32_t> types(258, 1);
  types[256] = types[257] = 3;
  out->String("tokenizer.ggml.model", "gpt2").String("tokenizer.ggml.pre", "gpt-2");
  out->Strings("tokenizer.ggml.tokens", tokens).Int32s("tokenizer.ggml.token_type", types);
  out->Strings("tokenizer.ggml.merges", {});
  out->Uint32("tokenizer.ggml.bos_token_id", 256).Uint32("tokenizer.ggml.eos_token_id", 257);
  out->Bool("tokenizer.ggml.add_bos_token", true);
}

void AddTensors(const Checkpoint& source, GgufBytes* out) {
  const ModelConfig& config = source.config();
  for (const std::string& name : source.TensorNames()) {
    const TensorView view = *source.Tensor(name);
    std::string bytes = Text(view.bytes);
    const bool q = name.find("q_proj") != name.npos, k = name.find("k_proj") != name.npos;
    if (q || k) {
      bytes = Interleave(bytes, view.shape[0], q ? config.num_heads : config.num_kv_heads);
    }
    const uint32_t type = view.dtype == DType::kF32   ? kF32
                          : view.dtype == DType::kF16 ? kF16
                                                      : kBF16;
    out->Tensor(GgufName(name), type, view.shape, bytes);
  }
}

}  // namespace

void AddGgufMetadata(const ModelConfig& config, GgufBytes* out) {
  out->String("general.architecture", "llama");
  const auto number = [out](const std::string& key, int64_t value) {
    out->Uint32("llama." + key, static_cast<uint32_t>(value));
  };
  number("block_count", config.num_layers);
  number("context_length", config.max_position_embeddings);
  number("embedding_length", config.hidden_size);
  number("feed_forward_length", config.intermediate_size);
  number("attention.head_count", config.num_heads);
  number("attention.head_count_kv", config.num_kv_heads);
  number("attention.key_length", config.head_dim);
  number("attention.value_length", config.head_dim);
  number("rope.dimension_count", config.head_dim);
  out->Float32("llama.rope.freq_base", static_cast<float>(config.rope.theta));
  out->Float32("llama.attention.layer_norm_rms_epsilon", static_cast<float>(config.norm_eps));
}

GgufBytes GgufOf(const std::string& hf_dir) {
  const auto source = Checkpoint::Open(hf_dir);
  if (!source.ok()) std::abort();
  GgufBytes bytes;
  AddGgufMetadata(source->config(), &bytes);
  AddTokenizer(hf_dir, &bytes);
  AddTensors(*source, &bytes);
  return bytes;
}

}  // namespace svdllm::testing
