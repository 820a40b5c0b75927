// A LLaMA in a GGUF file against the Hugging Face directory that it was made from.
#include "checkpoint/gguf_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <numbers>

#include "base/files.h"
#include "checkpoint/checkpoint.h"
#include "formats/gguf_quants.h"
#include "tests/support/gguf_bytes.h"
#include "tests/support/source_dir.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"
#include "tests/support/tiny_checkpoint.h"
#include "tests/support/tiny_gguf.h"
#include "tokenizer/tokenizer.h"

namespace svdllm {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using testing::GgufBytes;
using testing::TempDir;
using testing::TinyCheckpointOptions;
using testing::WriteTinyCheckpoint;

constexpr uint32_t kF32 = 0, kQ8_0 = 8;

std::string Text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The tiny model of options as a GGUF file in another directory; edit adds to it.
struct Pair {
  TempDir hf, gguf;
  std::string path;

  explicit Pair(const TinyCheckpointOptions& options = {},
                const std::function<void(GgufBytes*)>& edit = nullptr) {
    WriteTinyCheckpoint(hf.path(), options);
    GgufBytes bytes = testing::GgufOf(hf.path());
    if (edit) edit(&bytes);
    path = gguf.Write("model.gguf", bytes.Make());
  }
};

void ExpectEqual(const Checkpoint& ours, const Checkpoint& source) {
  const ModelConfig &a = ours.config(), &b = source.config();
  EXPECT_EQ(a.family, b.family);
  EXPECT_EQ(a.vocab_size, b.vocab_size);
  EXPECT_EQ(a.hidden_size, b.hidden_size);
  EXPECT_EQ(a.intermediate_size, b.intermediate_size);
  EXPECT_EQ(a.num_layers, b.num_layers);
  EXPECT_EQ(a.num_heads, b.num_heads);
  EXPECT_EQ(a.num_kv_heads, b.num_kv_heads);
  EXPECT_EQ(a.head_dim, b.head_dim);
  EXPECT_EQ(a.max_position_embeddings, b.max_position_embeddings);
  EXPECT_EQ(a.norm_eps, b.norm_eps);
  EXPECT_EQ(a.attention_bias, b.attention_bias);
  EXPECT_EQ(a.output_bias, b.output_bias);
  EXPECT_EQ(a.mlp_bias, b.mlp_bias);
  EXPECT_EQ(a.tie_word_embeddings, b.tie_word_embeddings);
  EXPECT_EQ(a.dtype, b.dtype);
  EXPECT_EQ(a.rope.kind, b.rope.kind);
  EXPECT_EQ(a.rope.theta, b.rope.theta);
  EXPECT_EQ(a.rope.factor, b.rope.factor);
  EXPECT_EQ(a.rope.original_max_position_embeddings, b.rope.original_max_position_embeddings);
  EXPECT_EQ(ours.parameters(), source.parameters());
  EXPECT_EQ(ours.weight_bytes(), source.weight_bytes());
  ASSERT_EQ(ours.TensorNames(), source.TensorNames());
  for (const std::string& name : ours.TensorNames()) {
    const auto got = ours.Tensor(name), want = source.Tensor(name);
    ASSERT_OK(got);
    EXPECT_EQ(got->shape, want->shape) << name;
    EXPECT_EQ(got->dtype, want->dtype) << name;
    EXPECT_EQ(Text(got->bytes), Text(want->bytes)) << name;
    EXPECT_EQ(ours.Spec(name)->shape, want->shape) << name;
  }
}

TEST(GgufModel, EqualsTheDirectoryItWasMadeFrom) {
  TinyCheckpointOptions wide, biased;
  wide.head_dim = 6;
  wide.tied = true;
  wide.dtype = DType::kBF16;
  biased.attention_bias = biased.mlp_bias = true;
  biased.dtype = DType::kF16;
  for (const TinyCheckpointOptions& options : {TinyCheckpointOptions(), wide, biased}) {
    const Pair pair(options);
    const auto source = Checkpoint::Open(pair.hf.path());
    for (const std::string& path : {pair.path, pair.gguf.path()}) {
      const auto ours = Checkpoint::Open(path);
      ASSERT_OK(ours);
      EXPECT_EQ(ours->dir(), path);
      ExpectEqual(*ours, *source);
    }
  }
}

TEST(GgufModel, RowsAreThoseOfTheWholeTensor) {
  const Pair pair;
  const auto ours = Checkpoint::Open(pair.path), source = Checkpoint::Open(pair.hf.path());
  ASSERT_OK(ours);
  const std::vector<int64_t> rows = {5, 0, 5, 15};
  for (const char* name : {"model.embed_tokens.weight", "model.layers.1.self_attn.q_proj.weight"}) {
    const auto got = ours->Rows(name, rows), want = source->Rows(name, rows);
    ASSERT_OK(got);
    EXPECT_THAT(got->shape, ElementsAre(4, 16));
    EXPECT_EQ(Text(got->bytes), Text(want->bytes));
    const std::string whole = Text(ours->Tensor(name)->bytes);
    EXPECT_EQ(Text(got->bytes).substr(64, 64), whole.substr(0, 64));
    EXPECT_EQ(Text(got->bytes).substr(192), whole.substr(15 * 64, 64));
  }
  EXPECT_STATUS(ours->Rows("absent", rows), kNotFound, "", {"absent"});
}

// Blocks of Q8_0: the scale 2^-6, and codes.
std::string Q8Blocks(int64_t count) {
  std::string bytes;
  for (int64_t block = 0; block < count; ++block) {
    bytes += std::string("\x00\x24", 2);
    for (int i = 0; i < 32; ++i) bytes.push_back(static_cast<char>(block * 7 + i * 5));
  }
  return bytes;
}

TEST(GgufModel, QuantisedTensorsAreHalfPrecisionNumbers) {
  TempDir dir;
  GgufBytes bytes;
  bytes.String("general.architecture", "llama").Uint32("llama.attention.head_count", 2);
  for (const char* key :
       {"block_count", "context_length", "embedding_length", "feed_forward_length"}) {
    bytes.Uint32(std::string("llama.") + key, 32);
  }
  bytes.Float32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  bytes.Tensor("token_embd.weight", kQ8_0, {4, 32}, Q8Blocks(4));
  bytes.Tensor("blk.0.attn_q.weight", kQ8_0, {8, 64}, Q8Blocks(16));
  const auto model = GgufModel::Open(dir.Write("q.gguf", bytes.Make()));
  ASSERT_OK(model);
  const TensorView embedding = model->Tensor("model.embed_tokens.weight");
  EXPECT_EQ(embedding.dtype, DType::kF16);
  EXPECT_THAT(embedding.shape, ElementsAre(4, 32));
  const auto number = [](const TensorView& view, size_t i) {
    float value = 0;
    ConvertElements(view.bytes.data() + 2 * i, DType::kF16, &value, DType::kF32, 1);
    return value;
  };
  const auto expected = [](int64_t block, int i) {
    return static_cast<float>(static_cast<int8_t>(block * 7 + i * 5)) / 64;
  };
  for (int64_t row = 0; row < 4; ++row) {
    for (int i = 0; i < 32; ++i) {
      EXPECT_EQ(number(embedding, static_cast<size_t>(row * 32 + i)), expected(row, i));
    }
  }
  // Two heads of four rows: the file's rows are 0 2 1 3 of each.
  const TensorView q = model->Tensor("model.layers.0.self_attn.q_proj.weight");
  const int64_t file_row[] = {0, 2, 1, 3, 4, 6, 5, 7};
  for (int64_t row = 0; row < 8; ++row) {
    for (int i = 0; i < 64; ++i) {
      EXPECT_EQ(number(q, static_cast<size_t>(row * 64 + i)),
                expected(file_row[row] * 2 + i / 32, i % 32));
    }
  }
}

TEST(GgufModel, Llama3ScalingIsRecovered) {
  TinyCheckpointOptions options;
  options.config_json = R"({"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3",
      "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
      "original_max_position_embeddings": 2048}})";
  options.head_dim = 16;
  std::vector<float> factors;
  for (int i = 0; i < 8; ++i) {
    const double wavelength = 2 * std::numbers::pi * std::pow(500000.0, i / 8.0);
    const double smooth = (2048 / wavelength - 1) / 3;
    factors.push_back(static_cast<float>(smooth > 1   ? 1
                                         : smooth < 0 ? 32
                                                      : 1 / ((1 - smooth) / 32 + smooth)));
  }
  ASSERT_GT(std::count_if(factors.begin(), factors.end(), [](float f) { return f > 1 && f < 32; }),
            0);
  const auto add = [&](GgufBytes* bytes) {
    bytes->Tensor("rope_freqs.weight", kF32, {8},
                  {reinterpret_cast<const char*>(factors.data()), 32});
  };
  const Pair pair(options, add);
  const auto ours = Checkpoint::Open(pair.path), source = Checkpoint::Open(pair.hf.path());
  ASSERT_OK(ours);
  EXPECT_EQ(ours->config().rope.kind, RopeKind::kLlama3);
  EXPECT_EQ(ours->config().rope.low_freq_factor, 1.0);
  EXPECT_EQ(ours->config().rope.high_freq_factor, 4.0);
  ExpectEqual(*ours, *source);
  factors[3] *= 1.01f;
  EXPECT_STATUS(Checkpoint::Open(Pair(options, add).path), kUnimplemented, kUnsupportedArchitecture,
                {"rope_freqs.weight", "llama3"});
}

TEST(GgufModel, LinearScaling) {
  const Pair pair({}, [](GgufBytes* bytes) {
    bytes->String("llama.rope.scaling.type", "linear").Float32("llama.rope.scaling.factor", 4);
  });
  const auto ours = Checkpoint::Open(pair.path);
  ASSERT_OK(ours);
  EXPECT_EQ(ours->config().rope.kind, RopeKind::kLinear);
  EXPECT_EQ(ours->config().rope.factor, 4.0);
}

TEST(GgufModel, WhatALlamaCannotSayIsRefusedByName) {
  const std::pair<std::function<void(GgufBytes*)>, std::string> kCases[] = {
      {[](GgufBytes* b) { b->Uint32("llama.expert_count", 8); }, "llama.expert_count"},
      {[](GgufBytes* b) { b->Uint32("llama.attention.sliding_window", 4096); }, "sliding_window"},
      {[](GgufBytes* b) { b->Float32("llama.logit_scale", 0.5f); }, "llama.logit_scale"},
      {[](GgufBytes* b) { b->String("llama.rope.scaling.type", "yarn"); }, "yarn"},
      {[](GgufBytes* b) { b->Tensor("blk.0.attn_sinks.weight", kF32, {1}, "abcd"); }, "attn_sinks"},
      {[](GgufBytes* b) { b->Tensor("other.weight", kF32, {1}, "abcd"); }, "other.weight"},
      {[](GgufBytes* b) { b->Tensor("blk.0.ffn_up.scale", kF32, {1}, "abcd"); }, "ffn_up.scale"},
      {[](GgufBytes* b) { b->Tensor("blk.9.ffn_up.weight", 16, {256}, ""); }, "ggml type 16"},
  };
  for (const auto& [edit, named] : kCases) {
    const Pair pair({}, edit);
    EXPECT_STATUS(Checkpoint::Open(pair.path), kUnimplemented, kUnsupportedArchitecture,
                  {"model.gguf", named});
  }
  TempDir dir;
  EXPECT_STATUS(Checkpoint::Open(
                    dir.Write("a.gguf", GgufBytes().String("general.architecture", "bert").Make())),
                kUnimplemented, kUnsupportedArchitecture, {"a.gguf", "bert", "supported: llama"});
}

TEST(GgufModel, MissingKeysTensorsAndFilesAreNamed) {
  TempDir dir;
  GgufBytes bytes;
  bytes.String("general.architecture", "llama");
  const std::string path = dir.Write("a.gguf", bytes.Make());
  EXPECT_STATUS(Checkpoint::Open(path), kInvalidArgument, kModelCorrupt, {path, "token_embd"});
  bytes.Tensor("token_embd.weight", kF32, {2, 2}, std::string(16, '\0'));
  dir.Write("a.gguf", bytes.Make());
  EXPECT_STATUS(Checkpoint::Open(path), kInvalidArgument, kModelCorrupt,
                {path, "llama.embedding_length"});
  bytes.Tensor("blk.0.attn_q.weight", kF32, {3, 2}, std::string(24, '\0'));
  bytes.Uint32("llama.attention.head_count", 2);
  dir.Write("a.gguf", bytes.Make());
  EXPECT_STATUS(Checkpoint::Open(path), kInvalidArgument, kModelCorrupt,
                {path, "blk.0.attn_q.weight", "2 heads"});
  EXPECT_STATUS(Checkpoint::Open(dir.File("absent.gguf")), kNotFound, kModelNotFound,
                {"absent.gguf"});
  GgufBytes no_norm;
  testing::AddGgufMetadata(Checkpoint::Open(Pair().path)->config(), &no_norm);
  no_norm.Tensor("token_embd.weight", kF32, {4, 16}, std::string(256, '\0'));
  dir.Write("a.gguf", no_norm.Make());
  EXPECT_STATUS(Checkpoint::Open(path), kInvalidArgument, kModelCorrupt, {path, ": missing"});
}

TEST(GgufModel, TheTokenizerIsTheDirectorys) {
  const Pair pair;
  const auto ours = Tokenizer::Load(pair.path), source = Tokenizer::Load(pair.hf.path());
  ASSERT_OK(ours);
  ASSERT_OK(source);
  for (const char* text : {"", "Hello, world!", " a</s>b <s>", "\xc3\xa9\xf0\x9f\x98\x80"}) {
    const auto ids = *ours->Encode(text, true);
    EXPECT_EQ(ids, *source->Encode(text, true)) << text;
    EXPECT_EQ(ours->Decode(ids, true), source->Decode(ids, true)) << text;
  }
  EXPECT_EQ(ours->eos_id(), 257);
  EXPECT_EQ(ours->bos_id(), 256);
  // What an artifact gets beside config.json makes the same tokenizer.
  const auto files = Checkpoint::Open(pair.path)->MadeFiles();
  ASSERT_OK(files);
  TempDir artifact;
  for (const auto& [name, text] : *files) artifact.Write(name, text);
  const auto copied = Tokenizer::Load(artifact.path());
  ASSERT_OK(copied);
  EXPECT_EQ(*copied->Encode("Hello</s>", true), *ours->Encode("Hello</s>", true));
  EXPECT_EQ(copied->eos_id(), 257);
  EXPECT_TRUE(Checkpoint::Open(pair.hf.path())->MadeFiles()->empty());
}

// metaspace.json is a SentencePiece model's; its pieces have the scores 0, -1, -2 … in order of id.
TEST(GgufModel, SentencePiecesWithScores) {
  const std::string text = *ReadFile(SourceDir() + "/tests/unit/tokenizer/data/metaspace.json");
  const json file = json::parse(text);
  const json& vocab = file.at("model").at("vocab");
  std::vector<std::string> tokens(vocab.size());
  for (const auto& [token, id] : vocab.items()) tokens.at(id.get<size_t>()) = token;
  std::vector<int32_t> types(tokens.size(), 1);
  std::vector<float> scores(tokens.size(), 0);
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (id < 259) types[id] = id == 0 ? 2 : id < 3 ? 3 : 6;
    if (id >= 259) scores[id] = 259 - static_cast<float>(id);
  }
  GgufBytes bytes;
  bytes.String("tokenizer.ggml.model", "llama").Strings("tokenizer.ggml.tokens", tokens);
  bytes.Int32s("tokenizer.ggml.token_type", types).Float32s("tokenizer.ggml.scores", scores);
  bytes.Uint32("tokenizer.ggml.bos_token_id", 1).Uint32("tokenizer.ggml.eos_token_id", 2);
  TempDir dir, hf;
  const auto ours = Tokenizer::Load(dir.Write("t.gguf", bytes.Make()));
  hf.Write("tokenizer.json", text);
  const auto source = Tokenizer::Load(hf.path());
  ASSERT_OK(ours);
  ASSERT_OK(source);
  for (const char* text : {"", "The little engine pulls the train.", "  two  spaces ", "a<s>b</s>",
                           "Zw\xc3\xb6lf \xe6\x97\xa5\xe6\x9c\xac\n"}) {
    const auto ids = *ours->Encode(text, true);
    EXPECT_EQ(ids, *source->Encode(text, true)) << text;
    EXPECT_EQ(ours->Decode(ids, true), source->Decode(ids, true)) << text;
  }
  EXPECT_EQ(ours->eos_id(), 2);
  EXPECT_EQ(*ours->Encode("", true), std::vector<int32_t>{1});
  // Without the space in front, as later models have it.
  bytes.Bool("tokenizer.ggml.add_space_prefix", false).Bool("tokenizer.ggml.add_bos_token", false);
  const auto bare = Tokenizer::Load(dir.Write("t.gguf", bytes.Make()));
  ASSERT_OK(bare);
  EXPECT_EQ(*bare->Encode(" The", true), *source->Encode("The", false));
  EXPECT_EQ(bare->Decode(*bare->Encode(" The", true), true), " The");
}

TEST(GgufModel, TokenizersThatCannotBeMatchedAreRefusedByName) {
  const auto tokens = [](GgufBytes bytes) { return bytes.Strings("tokenizer.ggml.tokens", {"a"}); };
  const GgufBytes gpt2 = tokens(GgufBytes().String("tokenizer.ggml.model", "gpt2"));
  const GgufBytes llama = tokens(GgufBytes().String("tokenizer.ggml.model", "llama"));
  struct Case {
    GgufBytes bytes;
    absl::StatusCode code;
    std::string_view reason, named;
  };
  const Case kCases[] = {
      {GgufBytes(), absl::StatusCode::kUnimplemented, kUnsupportedTokenizer, "(none)"},
      {GgufBytes().String("tokenizer.ggml.model", "bert"), absl::StatusCode::kUnimplemented,
       kUnsupportedTokenizer, "bert"},
      {GgufBytes(gpt2).String("tokenizer.ggml.pre", "tekken"), absl::StatusCode::kUnimplemented,
       kUnsupportedTokenizer, "tekken"},
      {GgufBytes(gpt2).String("tokenizer.ggml.pre", "gpt-2"), absl::StatusCode::kInvalidArgument,
       kModelCorrupt, "tokenizer.ggml.merges"},
      {GgufBytes().String("tokenizer.ggml.model", "gpt2"), absl::StatusCode::kInvalidArgument,
       kModelCorrupt, "tokenizer.ggml.tokens"},
      {GgufBytes(llama), absl::StatusCode::kInvalidArgument, kModelCorrupt,
       "tokenizer.ggml.scores"},
      {GgufBytes(llama)
           .Float32s("tokenizer.ggml.scores", {0})
           .Bool("tokenizer.ggml.remove_extra_whitespaces", true),
       absl::StatusCode::kUnimplemented, kUnsupportedTokenizer, "remove_extra_whitespaces"},
      {GgufBytes(llama).Int32s("tokenizer.ggml.token_type", {1, 1}),
       absl::StatusCode::kInvalidArgument, kModelCorrupt, "token_type"},
      {GgufBytes(llama).Uint32("tokenizer.ggml.bos_token_id", 7),
       absl::StatusCode::kInvalidArgument, kModelCorrupt, "bos_token_id: 7"},
      {GgufBytes()
           .String("tokenizer.ggml.model", "llama")
           .Strings("tokenizer.ggml.tokens", {"\xff"}),
       absl::StatusCode::kInvalidArgument, kModelCorrupt, "token 0: not UTF-8"},
  };
  for (const Case& one : kCases) {
    TempDir dir;
    const std::string path = dir.Write("t.gguf", one.bytes.Make());
    const absl::Status status = Tokenizer::Load(path).status();
    EXPECT_TRUE(testing::HasError(status, one.code, one.reason, {path, one.named}));
  }
}

}  // namespace
}  // namespace svdllm
