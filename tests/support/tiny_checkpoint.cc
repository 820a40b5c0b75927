#include "tests/support/tiny_checkpoint.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "checkpoint/architecture.h"
#include "checkpoint/parse_config.h"
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
  json config = {{"model_type", options.family},
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
    config["model_type"] = "lowrank_" + options.family;
    config["low_rank_config"] = {{"format_version", 1},
                                 {"method", "svd_llm"},
                                 {"keep_ratio", 0.8},
                                 {"encoding", options.pivoted ? "pivoted" : "plain"},
                                 {"modules", modules}};
  }
  if (options.family == "opt") {
    config["ffn_dim"] = options.intermediate_size;
    for (const char* key : {"intermediate_size", "num_key_value_heads", "head_dim", "hidden_act"}) {
      config.erase(key);
    }
  }
  config.update(json::parse(options.family_json));
  config.update(json::parse(options.config_json));
  return config;
}

Weights MakeWeights(const Options& o, const ModelConfig& config) {
  const Architecture& arch = *FindArchitecture(config.family);
  Weights weights(o);
  const auto matrix = [&](std::string_view module, int64_t rows, int64_t cols, double deviation) {
    weights.Add(std::string(module) + ".weight", {rows, cols}, 0, deviation);
  };
  const auto norm = [&](const std::string& module, int64_t size) {
    const double mean = arch.norm == NormKind::kRmsPlusOne ? 0 : 1;
    weights.Add(module + ".weight", {size}, mean, 0.1);
    if (arch.norm == NormKind::kLayer) weights.Add(module + ".bias", {size}, 0, 0.1);
  };
  const auto layer_norm = [&](int64_t layer, std::string_view module, int64_t size) {
    if (!module.empty()) norm(LayerPath(arch, layer, module), size);
  };
  const int64_t hidden = config.hidden_size, embedding = config.embedding_size;
  matrix(arch.embedding, config.vocab_size, embedding, 1 / config.embedding_scale);
  if (arch.position == PositionKind::kLearned) {
    matrix(arch.positions, config.max_position_embeddings + kLearnedOffset, hidden, 0.5);
  }
  if (embedding != hidden) {
    matrix(arch.project_in, hidden, embedding, 1 / std::sqrt(static_cast<double>(embedding)));
    matrix(arch.project_out, embedding, hidden, 1 / std::sqrt(static_cast<double>(hidden)));
  }
  for (int64_t i = 0; i < config.num_layers; ++i) {
    layer_norm(i, arch.attn_norm, hidden);
    layer_norm(i, arch.q_norm, config.head_dim);
    layer_norm(i, arch.k_norm, config.head_dim);
    layer_norm(i, arch.attn_post_norm, hidden);
    layer_norm(i, arch.mlp_post_norm, hidden);
    std::string_view fused;  // what was written last
    for (const LinearRow& row : arch.linears) {
      // The norm in front of the second half, between both halves' weights.
      if (row.id == LinearId::kGate || (row.id == LinearId::kUp && !arch.gated())) {
        layer_norm(i, arch.mlp_norm, hidden);
      }
      const LinearShape shape = ShapeOf(config, row.id);
      const auto in_parts = [&](const LinearRow& other) {
        return other.fused == row.fused && o.ranks.count(LayerPath(arch, i, other.module)) > 0;
      };
      if (row.fused.empty() || std::any_of(arch.linears.begin(), arch.linears.end(), in_parts)) {
        weights.AddLinear(o, LayerPath(arch, i, row.module), shape.rows, shape.cols,
                          HasBias(config, row.id));
      } else if (row.fused != fused) {
        fused = row.fused;
        int64_t rows = 0;
        for (const LinearRow& other : arch.linears) {
          if (other.fused == fused) rows += ShapeOf(config, other.id).rows;
        }
        weights.AddLinear(o, LayerPath(arch, i, fused), rows, shape.cols, false);
      }
    }
  }
  if (config.final_norm) norm(std::string(arch.final_norm), hidden);
  if (!config.tie_word_embeddings) {
    matrix(arch.head, config.vocab_size, embedding, 1 / std::sqrt(static_cast<double>(embedding)));
  }
  return weights;
}

void WriteWeights(const std::string& dir, const Options& options, const ModelConfig& parsed) {
  const Weights weights = MakeWeights(options, parsed);
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
  std::string text;
  AppendUtf8(static_cast<char32_t>(code_point), &text);
  return text;
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

std::map<std::string, TinyCheckpointOptions> TinyFamilies() {
  std::map<std::string, TinyCheckpointOptions> families;
  const auto add = [&families](const std::string& name, const std::string& family,
                               const std::string& family_json) -> TinyCheckpointOptions& {
    TinyCheckpointOptions& options = families[name];
    options.family = family;
    options.num_layers = 3;
    options.head_dim = 6;  // not hidden_size / num_heads
    options.seed = 100 + families.size();
    options.family_json = family_json;
    return options;
  };
  TinyCheckpointOptions& llama = add("llama", "llama", "{}");
  llama.attention_bias = llama.mlp_bias = true;
  add("mistral", "mistral", R"({"sliding_window": 7})");
  TinyCheckpointOptions& opt = add("opt", "opt", "{}");
  opt.head_dim = 4;
  opt.num_kv_heads = 4;
  TinyCheckpointOptions& opt_behind =
      add("opt_350m", "opt", R"({"do_layer_norm_before": false, "word_embed_proj_dim": 10})");
  opt_behind.head_dim = 4;
  opt_behind.num_kv_heads = 4;
  opt_behind.tied = true;
  TinyCheckpointOptions& qwen2 =
      add("qwen2", "qwen2",
          R"({"use_sliding_window": true, "sliding_window": 5, "max_window_layers": 1})");
  qwen2.head_dim = 4;
  add("qwen3", "qwen3", "{}").tied = true;
  add("gemma2", "gemma2",
      R"({"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 9,
          "sliding_window": 8, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 2.5})");
  TinyCheckpointOptions& gemma3 =
      add("gemma3", "gemma3_text",
          R"({"hidden_activation": "gelu_pytorch_tanh", "query_pre_attn_scalar": 9,
              "sliding_window": 4, "sliding_window_pattern": 2, "rope_theta": 200000.0,
              "rope_local_base_freq": 3000.0,
              "rope_scaling": {"rope_type": "linear", "factor": 8.0}})");
  gemma3.tied = true;
  gemma3.num_kv_heads = 1;
  add("phi3", "phi3", R"({"sliding_window": 9, "pad_token_id": 0})").head_dim = 4;
  TinyCheckpointOptions& longrope = add(
      "phi3_longrope", "phi3",
      R"({"pad_token_id": 0, "original_max_position_embeddings": 16, "partial_rotary_factor": 0.5,
              "rope_scaling": {"type": "longrope", "short_factor": [1.0, 1.2],
                               "long_factor": [1.5, 4.0]}})");
  longrope.head_dim = 8;
  longrope.hidden_size = 32;
  return families;
}

void WriteTinyCheckpoint(const std::string& dir, const TinyCheckpointOptions& options) {
  std::filesystem::create_directories(dir);
  const std::string config = Config(options).dump(2);
  WriteOrDie(dir + "/config.json", config);
  Options own = options;
  own.config_json = "{}";
  WriteWeights(dir, options, ParseModelConfig(Config(own).dump()).value());
  if (options.tokenizer) WriteTokenizer(dir);
  if (!options.ranks.empty()) {
    WriteOrDie(dir + "/compression_manifest.json", R"({"format_version": 1, "files": {}})");
  }
}

}  // namespace svdllm::testing
