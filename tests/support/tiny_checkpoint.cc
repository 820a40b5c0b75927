#include "tests/support/tiny_checkpoint.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>
#include <vector>

#include "tests/support/safetensors_bytes.h"

namespace svdllm::testing {
namespace {

using nlohmann::json;
using Options = TinyCheckpointOptions;

void WriteOrDie(const std::string& path, const std::string& content) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
  out.close();
  if (!out) {
    std::perror(path.c_str());
    std::abort();
  }
}

// Numbers that are the same on every machine, which the standard's distributions are not.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2654435761u + 1) {}
  double Normal() {
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += Uniform();
    return sum - 6;
  }
  double Uniform() {
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
  }

 private:
  uint64_t state_;
};

class Weights {
 public:
  explicit Weights(const Options& options) : random_(options.seed), dtype_(options.dtype) {}

  void Add(const std::string& name, std::vector<int64_t> shape, double mean, double deviation) {
    int64_t count = 1;
    for (const int64_t d : shape) count *= d;
    std::vector<double> values(static_cast<size_t>(count));
    for (double& value : values) value = mean + deviation * random_.Normal();
    TestTensor tensor{.name = name, .dtype = dtype_, .shape = std::move(shape), .bytes = {}};
    tensor.bytes.resize(values.size() * SizeOf(dtype_));
    ConvertElements(values.data(), DType::kF64, tensor.bytes.data(), dtype_, values.size());
    tensors_.push_back(std::move(tensor));
  }

  void AddLinear(const Options& options, const std::string& module, int64_t rows, int64_t cols,
                 bool bias) {
    const auto rank = options.ranks.find(module);
    const bool factored = rank != options.ranks.end();
    if (factored) {
      const double deviation = 1 / std::sqrt(static_cast<double>(cols * rank->second));
      Add(module + ".low_rank_a.weight", {rank->second, cols}, 0, std::sqrt(deviation));
      Add(module + ".low_rank_b.weight",
          {rows - (options.pivoted ? rank->second : 0), rank->second}, 0, std::sqrt(deviation));
      if (options.pivoted) AddOrder(module + ".low_rank_order", rows);
    } else {
      Add(module + ".weight", {rows, cols}, 0, 1 / std::sqrt(static_cast<double>(cols)));
    }
    const bool on_second = factored && !options.pivoted;
    if (bias) Add(module + (on_second ? ".low_rank_b.bias" : ".bias"), {rows}, 0, 0.1);
  }

  void AddOrder(const std::string& name, int64_t rows) {
    std::vector<int32_t> order(static_cast<size_t>(rows));
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i-- > 1;) {
      std::swap(order[i],
                order[static_cast<size_t>(random_.Uniform() * static_cast<double>(i + 1))]);
    }
    tensors_.push_back({.name = name,
                        .dtype = DType::kI32,
                        .shape = {rows},
                        .bytes = {reinterpret_cast<const char*>(order.data()), 4 * order.size()}});
  }

  const std::vector<TestTensor>& tensors() const { return tensors_; }

 private:
  Random random_;
  DType dtype_;
  std::vector<TestTensor> tensors_;
};

std::string TorchName(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "float64";
    case DType::kF32:
      return "float32";
    case DType::kF16:
      return "float16";
    case DType::kBF16:
      return "bfloat16";
    case DType::kI32:
      return "int32";
  }
  return "";
}

json Config(const Options& options) {
  json config = {{"architectures", {"LlamaForCausalLM"}},
                 {"model_type", "llama"},
                 {"vocab_size", options.vocab_size},
                 {"hidden_size", options.hidden_size},
                 {"intermediate_size", options.intermediate_size},
                 {"num_hidden_layers", options.num_layers},
                 {"num_attention_heads", options.num_heads},
                 {"num_key_value_heads", options.num_kv_heads},
                 {"head_dim", options.head_dim},
                 {"max_position_embeddings", options.max_position_embeddings},
                 {"hidden_act", "silu"},
                 {"rms_norm_eps", 1e-5},
                 {"rope_theta", 10000.0},
                 {"rope_scaling", nullptr},
                 {"attention_bias", options.attention_bias},
                 {"mlp_bias", options.mlp_bias},
                 {"tie_word_embeddings", options.tied},
                 {"bos_token_id", 256},
                 {"eos_token_id", 257},
                 {"torch_dtype", TorchName(options.dtype)}};
  if (!options.ranks.empty()) {
    json modules;
    for (const auto& [name, rank] : options.ranks) modules[name] = {{"rank", rank}};
    config["model_type"] = "lowrank_llama";
    config["low_rank_config"] = {{"format_version", 1},
                                 {"method", "svd_llm"},
                                 {"keep_ratio", 0.8},
                                 {"encoding", options.pivoted ? "pivoted" : "plain"},
                                 {"modules", modules}};
  }
  config.update(json::parse(options.config_json));
  return config;
}

Weights MakeWeights(const Options& o) {
  Weights weights(o);
  weights.Add("model.embed_tokens.weight", {o.vocab_size, o.hidden_size}, 0, 1);
  const int64_t q_width = o.num_heads * o.head_dim;
  const int64_t kv_width = o.num_kv_heads * o.head_dim;
  for (int64_t i = 0; i < o.num_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    weights.Add(layer + "input_layernorm.weight", {o.hidden_size}, 1, 0.1);
    weights.AddLinear(o, layer + "self_attn.q_proj", q_width, o.hidden_size, o.attention_bias);
    weights.AddLinear(o, layer + "self_attn.k_proj", kv_width, o.hidden_size, o.attention_bias);
    weights.AddLinear(o, layer + "self_attn.v_proj", kv_width, o.hidden_size, o.attention_bias);
    weights.AddLinear(o, layer + "self_attn.o_proj", o.hidden_size, q_width, o.attention_bias);
    weights.Add(layer + "post_attention_layernorm.weight", {o.hidden_size}, 1, 0.1);
    weights.AddLinear(o, layer + "mlp.gate_proj", o.intermediate_size, o.hidden_size, o.mlp_bias);
    weights.AddLinear(o, layer + "mlp.up_proj", o.intermediate_size, o.hidden_size, o.mlp_bias);
    weights.AddLinear(o, layer + "mlp.down_proj", o.hidden_size, o.intermediate_size, o.mlp_bias);
  }
  weights.Add("model.norm.weight", {o.hidden_size}, 1, 0.1);
  if (!o.tied) weights.Add("lm_head.weight", {o.vocab_size, o.hidden_size}, 0, 0.25);
  return weights;
}

void WriteWeights(const std::string& dir, const Options& options) {
  const Weights weights = MakeWeights(options);
  const std::vector<TestTensor>& tensors = weights.tensors();
  if (options.shards == 1) {
    WriteOrDie(dir + "/model.safetensors", SafetensorsBytes(tensors));
    return;
  }
  json weight_map;
  size_t next = 0, total_bytes = 0;
  for (int shard = 0; shard < options.shards; ++shard) {
    char name[64];
    std::snprintf(name, sizeof(name), "model-%05d-of-%05d.safetensors", shard + 1, options.shards);
    const size_t end = tensors.size() * static_cast<size_t>(shard + 1) / options.shards;
    std::vector<TestTensor> part;
    for (; next < end; ++next) {
      weight_map[tensors[next].name] = name;
      total_bytes += tensors[next].bytes.size();
      part.push_back(tensors[next]);
    }
    WriteOrDie(dir + "/" + name, SafetensorsBytes(part));
  }
  const json index = {{"metadata", {{"total_size", total_bytes}}}, {"weight_map", weight_map}};
  WriteOrDie(dir + "/model.safetensors.index.json", index.dump(1));
}

std::string Utf8(int code_point) {
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xc0 | (code_point >> 6)),
          static_cast<char>(0x80 | (code_point & 0x3f))};
}

void WriteTokenizer(const std::string& dir) {
  json vocab;
  int id = 0;
  // GPT-2's alphabet: printable bytes stand for themselves, the others for 256, 257, ...
  const auto printable = [](int b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255);
  };
  for (int byte = 0; byte < 256; ++byte) {
    if (printable(byte)) vocab[Utf8(byte)] = id++;
  }
  for (int byte = 0, other = 256; byte < 256; ++byte) {
    if (!printable(byte)) vocab[Utf8(other++)] = id++;
  }
  const auto special = [](int token_id, const char* content) -> json {
    return {{"id", token_id},  {"content", content},  {"single_word", false}, {"lstrip", false},
            {"rstrip", false}, {"normalized", false}, {"special", true}};
  };
  const json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  const json bos = {{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}};
  const json a = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  const json b = {{"Sequence", {{"id", "B"}, {"type_id", 1}}}};
  json tokenizer = {
      {"version", "1.0"},      {"truncation", nullptr},       {"padding", nullptr},
      {"normalizer", nullptr}, {"pre_tokenizer", byte_level}, {"decoder", byte_level}};
  tokenizer["added_tokens"] = json::array({special(256, "<s>"), special(257, "</s>")});
  tokenizer["post_processor"] = {{"type", "TemplateProcessing"}};
  tokenizer["post_processor"]["single"] = json::array({bos, a});
  tokenizer["post_processor"]["pair"] = json::array({bos, a, bos, b});
  tokenizer["post_processor"]["special_tokens"]["<s>"] = {
      {"id", "<s>"}, {"ids", json::array({256})}, {"tokens", json::array({"<s>"})}};
  tokenizer["model"] = {{"type", "BPE"},
                        {"dropout", nullptr},
                        {"unk_token", nullptr},
                        {"continuing_subword_prefix", nullptr},
                        {"end_of_word_suffix", nullptr},
                        {"fuse_unk", false},
                        {"byte_fallback", false},
                        {"vocab", vocab},
                        {"merges", json::array()}};
  WriteOrDie(dir + "/tokenizer.json", tokenizer.dump());
  const json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                       {"bos_token", "<s>"},
                       {"eos_token", "</s>"},
                       {"clean_up_tokenization_spaces", false},
                       {"model_max_length", 128}};
  WriteOrDie(dir + "/tokenizer_config.json", config.dump(1));
}

}  // namespace

void WriteTinyCheckpoint(const std::string& dir, const TinyCheckpointOptions& options) {
  std::filesystem::create_directories(dir);
  WriteOrDie(dir + "/config.json", Config(options).dump(2));
  WriteWeights(dir, options);
  if (options.tokenizer) WriteTokenizer(dir);
  if (!options.ranks.empty()) {
    WriteOrDie(dir + "/compression_manifest.json", R"({"format_version": 1, "files": {}})");
  }
}

}  // namespace svdllm::testing
